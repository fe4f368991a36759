"""Tells before a run which signals of the database's health can be read, and what is missing for the others."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from whimbrel.domain.health.members_left_out import NO_MEMBER
from whimbrel.domain.health.readings import Reading, worst_readings
from whimbrel.domain.runs.preflight_findings import CheckName, Finding, information, unknown, warning
from whimbrel.engine.operating.checks_apart import UNBROKERED, answers
from whimbrel.ports import Store, Watching
from whimbrel.ports.health import all_signals

BY_ITSELF = ("majority-write", "read-canary", "write-canary")  # measured by the sampler, without a privilege
LOOK = "See them all: whimbrel health."


def health_findings(store: Store) -> list[Finding]:
    """Returns one finding about all signals, and a warning where a person has named members that there are not. None where nobody is to watch."""
    watching = store.watching
    if watching is None:
        return []
    with contextlib.closing(store.health_reader()) as reader:
        readings = [*answers(watching), *reader.read(own_slots=0, namespaces=())]
    return [readable(readings, watching), *_strangers(readings)]


def readable(readings: Sequence[Reading], watching: Watching) -> Finding:
    """Returns which signals are read, which by a lesser means, and which are not, and why."""
    signals = all_signals(watching.signals)
    worst = worst_readings(readings, signals)
    read = [name for name in signals if _is_read(name, worst, watching) and not _is_lesser(name, worst)]
    lesser = [name for name in signals if _is_lesser(name, worst)]
    absent = {name: why for name, why in _absent(signals, worst, watching) if name not in read}
    left = [name for name in signals if name not in {*read, *lesser, *absent}]
    unread = {name: worst[name].problem if name in worst else "nothing was read" for name in left}
    grants = sorted({worst[name].grant for name in left if name in worst and worst[name].grant})
    detail = {"read": read, "lesser": lesser, "absent": absent, "unread": unread, "grants": grants}
    count = len(read) + len(lesser) + len(unread)
    apart = _listed("mean nothing here", absent)
    if not lesser and not unread:
        return information(
            CheckName.HEALTH, f"All {count} signals of the database's health are read.{apart}", LOOK, **detail
        )
    parts = [f"{len(read)} are read"]
    if lesser:
        parts.append(f"{len(lesser)} are read by a lesser means, in whole seconds ({', '.join(lesser)})")
    if unread:
        parts.append(f"{len(unread)} cannot be read ({'; '.join(_reasons(unread, grants))})")
    remedy = f"Grant what is missing: {'; '.join(grants)}" if grants else LOOK
    return unknown(
        CheckName.HEALTH, f"Of {count} signals of the database's health {', '.join(parts)}.{apart}", remedy, **detail
    )  # fmt: skip


def _is_read(name: str, worst: Mapping[str, Reading], watching: Watching) -> bool:
    if name in BY_ITSELF or (name == "broker-alarm" and watching.brokered):
        return True
    return name in worst and worst[name].value is not None


def _is_lesser(name: str, worst: Mapping[str, Reading]) -> bool:
    return name in worst and worst[name].value is not None and worst[name].lesser


def _absent(
    signals: Iterable[str], worst: Mapping[str, Reading], watching: Watching
) -> Iterator[tuple[str, str]]:
    for name in signals:
        if name in worst and worst[name].absent:
            yield name, worst[name].absent
        elif name == "broker-alarm" and not watching.brokered:
            yield name, UNBROKERED


def _listed(what: str, reasons: Mapping[str, str]) -> str:
    """Returns a sentence about some signals, with a blank before it; empty where there are none."""
    return f" {len(reasons)} {what} ({'; '.join(_reasons(reasons, ()))})." if reasons else ""


def _reasons(reasons: Mapping[str, str], grants: Sequence[str]) -> Iterator[str]:
    """Yields the signals of each reason. What a grant would cure is told once, with the grant."""
    names: dict[str, list[str]] = {}
    for name, why in reasons.items():
        names.setdefault("not allowed" if any(grant in why for grant in grants) else why, []).append(name)
    return (f"{', '.join(some)}: {why.rstrip('.')}" for why, some in names.items())


def _strangers(readings: Iterable[Reading]) -> Iterator[Finding]:
    hosts = sorted({reading.host for reading in readings if reading.absent == NO_MEMBER})
    if hosts:
        yield warning(
            CheckName.HEALTH,
            f"WHIMBREL_HEALTH_IGNORE_MEMBERS names {', '.join(hosts)}, and the replica set has no such member.",
            "Write members as host:port, as rs.conf() has them.",
            hosts=hosts,
        )
