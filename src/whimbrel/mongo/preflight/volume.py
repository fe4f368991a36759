"""Compares what the run writes with the oplog and the free disk space."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import bson
from pymongo import MongoClient

from whimbrel.domain.runs.preflight_findings import CheckName, Finding, warning
from whimbrel.errors import Refused, Systemic
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.change_streams import change_streams
from whimbrel.mongo.preflight.sample import Sample
from whimbrel.mongo.preflight.subject import LOOK, Subject, size, storage_of
from whimbrel.ports import Ahead

ENTRY = 250  # bytes of an oplog entry with the mark, without what the update sets: 214 to 234 were measured
MARK = 64  # bytes that the mark adds to a document
SMALL = 50_000_000  # bytes: any oplog is large enough for that
PART = 0.5  # of the oplog: a run may write it without a warning
SPARE = 2  # times the expected growth must be free: MongoDB keeps old versions of documents for a while
LEAST = 1_000_000_000  # bytes that must be free for any run


@dataclass(frozen=True, slots=True)
class Volume:
    """Expected writes: `growth` bytes of documents, `oplog` bytes of entries, and the basis of the estimate."""

    growth: int
    oplog: int
    basis: str


def growth_of(subject: Subject, ahead: Ahead, image: float) -> float:
    """Returns the bytes that a document gains on average: as a dry run found, else mark, update and before-image."""
    return MARK + _update_size(subject) + image if ahead.mean_growth is None else ahead.mean_growth


def largest_growth(subject: Subject, ahead: Ahead, sample: Sample) -> int:
    """Returns the bytes that the largest document gains at most."""
    if ahead.growth is not None:
        return ahead.growth
    return MARK + _update_size(subject) + sample.largest_with_image - sample.largest


def _update_size(subject: Subject) -> int:
    return len(bson.encode({"u": subject.definition.update})) if subject.definition.update is not None else 0


def expected(subject: Subject, ahead: Ahead, sample: Sample) -> Volume:
    documents = ahead.documents or 0
    growth = round(documents * max(0.0, growth_of(subject, ahead, sample.image)))
    if ahead.oplog is not None:
        return Volume(growth, ahead.oplog, f"{documents:,} documents, as the dry run predicts")
    written = _update_size(subject) if subject.definition.declarative else round(sample.mean)
    basis = f"{documents:,} documents, of each {ENTRY} bytes for its entry and " + (
        f"{written:,} as the size of the update"
        if subject.definition.declarative
        else f"at most {written:,}, the mean size of {sample.basis}"
    )
    if sample.image:
        basis += f", and {sample.image:,.0f} for its before-image"
    return Volume(growth, documents * (ENTRY + written + round(sample.image)), basis)


def oplog(subject: Subject, volume: Volume) -> Iterator[Finding]:
    """Warns where the run may outgrow the oplog: a member that falls behind it must be synced from scratch."""
    if volume.oplog <= SMALL:
        return
    most = int(storage_of(subject.client.local["oplog.rs"])["maxSize"])
    if volume.oplog <= PART * most or not _oplog_is_read(subject):
        return
    seconds = _oplog_window(subject.client)
    yield warning(
        CheckName.OPLOG,
        f"The run writes about {size(volume.oplog)} to the oplog ({volume.basis}), which holds {size(most)} and reaches {_duration_text(seconds)} back now. Members, change streams and backups that fall behind further than it then reaches cannot catch up.",
        "Give the run a rate (`maxDocsPerSecond` of the REST API), or make the oplog larger first: db.adminCommand({replSetResizeOplog: 1, size: megabytes}).",
        volume=volume.oplog, oplogBytes=most, windowSeconds=round(seconds), basis=volume.basis,
    )  # fmt: skip


def _oplog_is_read(subject: Subject) -> bool:
    """Whether other members or change streams read the oplog."""
    with translated():
        hosts = subject.client.admin.command("hello").get("hosts", [])
    return len(hosts) > 1 or bool(change_streams(subject))


def _oplog_window(client: MongoClient[Any]) -> float:
    entries = client.local["oplog.rs"]
    with translated():
        first, last = (
            next(entries.find({}, {"ts": 1}, max_time_ms=LOOK).sort("$natural", order).limit(1))
            for order in (1, -1)
        )
    return float(last["ts"].time - first["ts"].time)


def _duration_text(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} hours" if seconds >= 3600 else f"{seconds / 60:,.1f} minutes"  # noqa: PLR2004


def _oplog_room(client: MongoClient[Any]) -> float:
    """Returns the bytes that the oplog can still grow by; infinity without permission to look."""
    try:
        stats = storage_of(client.local["oplog.rs"])
    except (Systemic, Refused):
        return inf
    return max(0.0, float(stats["maxSize"]) - float(stats["size"]))


def disk(subject: Subject, volume: Volume, *, replica_set: bool) -> Iterator[Finding]:
    with translated():
        statistics = subject.collection.database.command("dbStats", maxTimeMS=LOOK)
    free = float(statistics["fsTotalSize"]) - float(statistics["fsUsedSize"])
    entries = min(volume.oplog, _oplog_room(subject.client)) if replica_set else 0
    needed = SPARE * (volume.growth + entries)
    if free < max(LEAST, needed):
        yield warning(
            CheckName.DISK,
            f"The disk of MongoDB has {size(free)} free; the run needs about {size(needed)}: twice what its documents and the oplog grow by ({volume.basis}). A full disk stops the server.",
            "Make room first, or migrate a part at a time (--limit, or a narrower filter).",
            free=int(free), needed=int(needed), growth=volume.growth,
        )  # fmt: skip
