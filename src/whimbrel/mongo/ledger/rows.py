"""Converts between dataclasses and the rows of the ledger. Keys stay raw bytes both ways."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import ceil
from typing import Any

from bson.raw_bson import RawBSONDocument

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import (
    FailedDocument,
    Failure,
    FailureKind,
    FailureStanding,
    FailureState,
    OpenFailure,
    Unresolved,
)
from whimbrel.domain.migrations.marks import read_stamp, stamp
from whimbrel.domain.runs.batch_progress import LEFT, Progress, Stretch
from whimbrel.domain.runs.batches import Batch, BatchOutline
from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.sizing import BatchWork
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.domain.runs.tiling import Tile
from whimbrel.domain.runs.verification import MarkTally
from whimbrel.domain.runs.workers import InHand, Refusal, Worker
from whimbrel.mongo.ledger.chunk_time_rows import chunk_times_of

FORMAT = (
    4  # of the ledger: needs a new number, and a step in `ledger/format.py`, when older rows would be misread
)
Row = Mapping[str, Any]


def key_of(value: Any) -> Key | None:
    return Key(bytes(value.raw)) if isinstance(value, RawBSONDocument) else None


def raw_of(key: Key | None) -> Any:
    return key.document if key else None


def _keys(values: Sequence[Any] | None) -> tuple[Key, ...]:
    return tuple(Key(raw_key.raw) for raw_key in values or ())


def counts_of(row: Row | None) -> Counts:
    row = row or {}
    return Counts(row.get("changed", 0), row.get("unchanged", 0), row.get("skipped", 0))


def counts_row(counts: Counts) -> dict[str, int]:
    return {"changed": counts.changed, "unchanged": counts.unchanged, "skipped": counts.skipped}


def tally_row(tally: MarkTally) -> dict[str, Any]:
    """Returns the row of a tally, its marks by batch and outcome, so that they can be summed with the batches' own counts."""
    marks = []
    for value, count in tally.marks.items():
        batch, outcome = read_stamp(value)
        marks.append({"batch": batch, "outcome": outcome, "n": count})
    return {"numbers": dict(tally.numbers), "marks": marks}


def tally_of(row: Row | None) -> MarkTally | None:
    if row is None:
        return None
    marks = {stamp(mark["batch"], mark["outcome"]): mark["n"] for mark in row["marks"]}
    return MarkTally(Counter(dict(row["numbers"])), Counter(marks))


def progress_row(progress: Progress) -> dict[str, Any]:
    """Returns progress with each stretch as a list of numbers: there are many rows, written while batches are executed."""
    rows = [
        [stretch.end, stretch.counts.changed, stretch.counts.unchanged, stretch.counts.skipped, stretch.failed, *_left_row(stretch.left)]
        for stretch in progress.stretches
    ]  # fmt: skip
    return {"progress": rows, "at": raw_of(progress.last_key), "inferred": progress.inferred}


def _left_row(left: Mapping[str, int] | None) -> list[int]:
    return [] if left is None else [left.get(status, 0) for status in LEFT]


def progress_of(row: Row) -> Progress:
    stretches = tuple(
        Stretch(end, Counts(changed, unchanged, skipped), failed, dict(zip(LEFT, left, strict=True)) if left else None)
        for end, changed, unchanged, skipped, failed, *left in row.get("progress", ())
    )  # fmt: skip
    return Progress(stretches, key_of(row.get("at")) if stretches else None, row.get("inferred", False))


def work_row(work: BatchWork) -> dict[str, Any]:
    return asdict(work)


def work_of(row: Row) -> BatchWork:
    return BatchWork(**row)


def before_row(before: Mapping[int, int]) -> dict[str, int]:
    return {str(end): number for end, number in before.items()}


def before_of(row: Row) -> dict[int, int] | None:
    before = row.get("before")
    if before is None:
        return None
    if isinstance(before, int):  # a row of an earlier version: of the whole batch
        chunks = len(row.get("cuts") or ()) or ceil(len(row.get("ids") or ()) / CHUNK_DOCUMENTS)
        return {chunks: before}
    return {int(end): number for end, number in before.items()}


def batch_row(batch: Batch) -> dict[str, Any]:
    """Returns the row of a batch as it is planned."""
    return {
        "_id": batch.token, "run": batch.run, "seq": batch.seq, "leg": batch.leg, "phase": batch.phase,
        "lo": raw_of(batch.lo), "cuts": [key.document for key in batch.cuts],
        "ids": None if batch.ids is None else [key.document for key in batch.ids],
        "retry": batch.retry, "last": batch.last, "estimated": batch.estimated, "status": str(batch.status), "claims": batch.claims,
        "takeovers": batch.takeovers, "solo": batch.solo, "counts": counts_row(batch.counts),
        "found": batch.located, "through": batch.through, "source": batch.source,
    }  # fmt: skip


def batch_of(row: Row) -> Batch:
    return Batch(
        run=row["run"], seq=row["seq"], leg=row["leg"], phase=row["phase"],
        lo=key_of(row.get("lo")), cuts=_keys(row.get("cuts")),
        ids=None if row.get("ids") is None else _keys(row["ids"]), located=row.get("found", False), left=dict(row["left"]) if row.get("left") is not None else None,
        through=row.get("through", 0), source=row.get("source"), began=row.get("began"),
        last=row["last"], estimated=row["estimated"], status=BatchStatus(row["status"]),
        owner=row.get("owner"), lease_until=row.get("leaseUntil"), claimed_at=row.get("claimedAt"),
        claims=row["claims"], takeovers=row["takeovers"], solo=row["solo"],
        untouched=row.get("untouched", 0), progress=progress_of(row), suspect=key_of(row.get("suspect")), before=before_of(row),
        counts=counts_of(row.get("counts")), inferred=row.get("inferred", False), tally=tally_of(row.get("tally")),
        worker=row.get("worker"), settled_at=row.get("settledAt"),
    )  # fmt: skip


_LO = {"$cond": [{"$eq": [{"$ifNull": ["$lo", None]}, None]}, None, "$lo"]}
_HI = {"$ifNull": [{"$last": "$cuts"}, None]}
OUTLINE = {
    "takeovers": 1, "seq": 1, "leg": 1, "status": 1, "counts": 1, "inferred": 1, "last": 1, "lo": 1, "hi": _HI, "upTo": 1,
    "named": {"$or": [{"$isArray": "$ids"}, {"$ifNull": ["$found", False]}]},
    "chunkTimes": 1,
}  # fmt: skip
_FIRST = {"$getField": {"field": "_id", "input": {"$first": "$cuts"}}}
_ORDERED = {"$eq": ["$cuts", {"$sortArray": {"input": "$cuts", "sortBy": 1}}]}
_ABOVE = {"$or": [{"$eq": [_LO, None]}, {"$gt": [_FIRST, "$lo._id"]}]}
ASCENDING = {"$or": [{"$eq": ["$cuts", []]}, {"$and": [_ORDERED, _ABOVE]}]}


def outline_of(row: Row) -> BatchOutline:
    tile = Tile(
        seq=row["seq"], leg=row["leg"], lo=key_of(row.get("lo")), hi=key_of(row.get("hi")), ranged=not row["named"],
        last=row["last"], ascending=row.get("ascending", True), through=row.get("upTo", 0),
    )  # fmt: skip
    return BatchOutline(
        tile=tile,
        status=BatchStatus(row["status"]),
        counts=counts_of(row.get("counts")),
        inferred=row.get("inferred", False),
        taken_over=bool(row.get("takeovers")),
        chunk_times=chunk_times_of(row.get("chunkTimes")),
    )


def failure_of(row: Row) -> Failure:
    return Failure(
        run=row["run"], key=Key(row["key"].raw), batch=row["batch"], phase=row["phase"], kind=FailureKind(row["kind"]),
        type=row["type"], message=row["message"], code=row.get("code"), group=row["group"],
        traceback=row.get("traceback", ""), attempt=row["attempt"], state=FailureState(row["state"]),
        outcome=row["outcome"], resolution=row.get("resolution"), due_at=row.get("dueAt"),
        first_at=row["firstAt"], last_at=row["lastAt"],
    )  # fmt: skip


UNRESOLVED_FIELDS = {"_id": 0, "run": 1, "key": 1, "batch": 1}


def unresolved_of(row: Row) -> Unresolved:
    return Unresolved(row["run"], Key(row["key"].raw), row["batch"])


TRIED_FIELDS = {"_id": 0, "key": 1, "batch": 1, "attempt": 1}
STANDING_FIELDS = {"_id": 0, "key": 1, "state": 1, "resolution": 1}
TROUBLE_FIELDS = {"_id": 0, "key": 1, "kind": 1, "type": 1, "message": 1}


def tried_of(row: Row) -> OpenFailure:
    return OpenFailure(Key(row["key"].raw), row["batch"], row["attempt"])


def standing_of(row: Row) -> FailureStanding:
    return FailureStanding(Key(row["key"].raw), FailureState(row["state"]), row.get("resolution"))


def trouble_of(row: Row) -> FailedDocument:
    return FailedDocument(
        key=Key(row["key"].raw), kind=FailureKind(row["kind"]), type=row["type"], message=row["message"]
    )


def worker_of(row: Row) -> Worker:
    return Worker(
        name=row["_id"], host=row["host"], pid=row["pid"], version=row["version"], slots=row["slots"], only=row["only"],
        code={code["migration"]: code["hash"] for code in row["code"]}, done=row["done"],
        in_hand=tuple(InHand(held["batch"], held["since"], held.get("changes", 0), held.get("stops", False)) for held in row["inHand"]),
        refuses=tuple(Refusal(refusal["run"], refusal["pinned"], refusal["here"]) for refusal in row["refuses"]),
        started_at=row["startedAt"], seen_at=row["seenAt"], loading=row.get("loading", False),
    )  # fmt: skip
