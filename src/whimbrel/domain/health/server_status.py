"""Reads signals out of the answer to MongoDB's `serverStatus`. Where a number stands depends on the server's version.

A number that is in none of the places known is unknown, never 0: a server that renames it must not look healthy.
Paths: https://www.mongodb.com/docs/manual/reference/command/serverStatus/
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from whimbrel.domain.health.readings import Reading

COMMAND = "serverStatus"
# Sections that no signal needs: without them the answer is a fifth smaller.
UNUSED = (
    "asserts", "locks", "transportSecurity", "tcmalloc", "security", "sharding", "opcounters", "opcountersRepl", "network",
    "logicalSessionRecordCache", "extra_info", "repl", "transactions", "twoPhaseCommitCoordinator", "electionMetrics",
    "indexStats", "readConcernCounters", "mirroredReads", "tenantMigrations",
)  # fmt: skip

_CACHE = ("wiredTiger", "cache")
_CACHE_SIZE = (*_CACHE, "maximum bytes configured")
# For each signal in percent of the cache: the place of the bytes.
_CACHE_PARTS = {
    "cache-dirty": (*_CACHE, "tracked dirty bytes in the cache"),
    "cache-updates": (*_CACHE, "bytes allocated for updates"),
    "cache-used": (*_CACHE, "bytes currently in the cache"),
}
_EVICTED = (*_CACHE, "pages evicted by application threads")
_CONFLICTS = ("metrics", "operation", "writeConflicts")
# Operations that wait for a ticket, newest servers first: several places are added up, and all of one row must be there.
_QUEUES: Sequence[Sequence[tuple[str, ...]]] = (
    (
        ("queues", "execution", "read", "normalPriority", "queueLength"),
        ("queues", "execution", "write", "normalPriority", "queueLength"),
    ),
    (
        ("wiredTiger", "concurrentTransactions", "read", "queueLength"),
        ("wiredTiger", "concurrentTransactions", "write", "queueLength"),
    ),
    (
        ("wiredTiger", "concurrentTransactions", "read", "normalPriority", "queueLength"),
        ("wiredTiger", "concurrentTransactions", "write", "normalPriority", "queueLength"),
    ),
    (("globalLock", "currentQueue", "readers"), ("globalLock", "currentQueue", "writers")),
)
FULL = 0.9  # the part of its size from which on an oplog has begun to forget
HOUR = 3600.0


def number_at(document: Mapping[str, Any], path: Sequence[str]) -> float | None:
    """Returns the number at a path; None where there is none."""
    value: Any = document
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return float(value) if isinstance(value, int | float) else None


def server_readings(
    status: Mapping[str, Any], before: Mapping[str, Any] | None, seconds: float, *, own_slots: int
) -> Iterator[Reading]:
    """Yields what one answer says, compared with the one `seconds` before it.

    `own_slots`: batches that Whimbrel works on, whose statements may wait in the same queues.
    """
    host = str(status.get("host", ""))
    for name, path in _CACHE_PARTS.items():
        part, size = number_at(status, path), number_at(status, _CACHE_SIZE)
        yield _reading(name, part / size * 100 if part is not None and size else None, host, path)
    yield _growth("application-evictions", status, before, _EVICTED, seconds)
    yield _growth("write-conflicts", status, before, _CONFLICTS, seconds)
    yield _queue(status, host, own_slots)
    current, free = (number_at(status, ("connections", name)) for name in ("current", "available"))
    total = None if current is None or free is None else current + free
    yield _reading(
        "connections-free", free / total * 100 if free is not None and total else None, host, ("connections",)
    )
    yield from _flow_control(status, before, seconds)


def _flow_control(
    status: Mapping[str, Any], before: Mapping[str, Any] | None, seconds: float
) -> Iterator[Reading]:
    host, flow = str(status.get("host", "")), status.get("flowControl")
    lagged = flow.get("isLagged") if isinstance(flow, Mapping) else None
    growing = _growth("flow-control", status, before, ("flowControl", "isLaggedTimeMicros"), seconds).value
    value = None if lagged is None else float(bool(lagged) or bool(growing))
    yield _reading("flow-control-lagged", value, host, ("flowControl", "isLagged"))
    acquiring = _growth("flow-control", status, before, ("flowControl", "timeAcquiringMicros"), seconds)
    yield Reading(
        "flow-control",
        None if acquiring.value is None else acquiring.value / 1000,
        host,
        acquiring.how,
        acquiring.problem,
    )


def _queue(status: Mapping[str, Any], host: str, own_slots: int) -> Reading:
    for paths in _QUEUES:
        lengths = [number_at(status, path) for path in paths]
        found = [length for length in lengths if length is not None]
        if len(found) == len(paths):
            return _reading("ticket-queue", max(0.0, sum(found) - own_slots), host, paths[0][:-1])
    return _reading("ticket-queue", None, host, _QUEUES[0][0])


def oplog_window(status: Mapping[str, Any], size: float | None, most: float | None) -> Reading:
    """Returns how far back the oplog reaches, in hours. `size`, `most`: its bytes, and those that it may have.

    An oplog that is not full has forgotten nothing yet: how far it reaches back says how old it is.
    """
    host, path = str(status.get("host", "")), ("oplog",)
    oplog = status.get("oplog")
    if not isinstance(oplog, Mapping) or "latestOptime" not in oplog or "earliestOptime" not in oplog:
        return _reading("oplog-window", None, host, path)
    if size is None or not most:
        return Reading("oplog-window", None, host, "collStats", "the oplog's size cannot be read")
    if size < FULL * most:
        return Reading("oplog-window", None, host, absent="the oplog is not full yet")
    seconds = float(oplog["latestOptime"].time - oplog["earliestOptime"].time)
    return _reading("oplog-window", seconds / HOUR, host, path)


def _growth(
    name: str,
    status: Mapping[str, Any],
    before: Mapping[str, Any] | None,
    path: Sequence[str],
    seconds: float,
) -> Reading:
    """Returns how much a counter has grown in a second. A server that was started again counts from 0."""
    host, now = str(status.get("host", "")), number_at(status, path)
    if now is None:
        return _reading(name, None, host, path)
    earlier = None if before is None or before.get("host") != status.get("host") else number_at(before, path)
    grown = 0.0 if earlier is None or now < earlier or seconds <= 0 else (now - earlier) / seconds
    return _reading(name, grown, host, path)


def _reading(name: str, value: float | None, host: str, path: Sequence[str]) -> Reading:
    how = ".".join((COMMAND, *path))
    return Reading(
        name, value, host, how, "" if value is not None else f"{how} is not in the server's answer"
    )
