"""Reads signals out of the answer to MongoDB's `serverStatus`. Where a number stands is in `server_paths`."""

from collections.abc import Iterator, Mapping
from typing import Any

from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.server_paths import PLACES, number_of, value_at

COMMAND = "serverStatus"
# Sections that no signal needs: without them the answer is a fifth smaller.
UNUSED = (
    "asserts", "locks", "transportSecurity", "tcmalloc", "security", "sharding", "opcounters", "opcountersRepl", "network",
    "logicalSessionRecordCache", "extra_info", "repl", "transactions", "twoPhaseCommitCoordinator", "electionMetrics",
    "indexStats", "readConcernCounters", "mirroredReads", "tenantMigrations",
)  # fmt: skip
FULL = 0.9  # the part of its size from which on an oplog has begun to forget
HOUR = 3600.0

Status = Mapping[str, Any]


def server_readings(
    status: Status, before: Status | None, seconds: float, *, own_slots: int
) -> Iterator[Reading]:
    """Yields what one answer says, compared with the one `seconds` before it.

    `own_slots`: batches that Whimbrel works on, whose statements may wait in the same queues.
    """
    size, _ = number_of(status, "cache-size")
    for name in ("cache-dirty", "cache-updates", "cache-used"):
        part, path = number_of(status, name)
        yield _reading(name, part / size * 100 if part is not None and size else None, status, path)
    for name in ("application-evictions", "write-conflicts"):
        yield _reading(name, *_growth(name, status, before, seconds))
    waiting, path = number_of(status, "ticket-queue")
    yield _reading("ticket-queue", None if waiting is None else max(0.0, waiting - own_slots), status, path)
    free, path = number_of(status, "connections-free")
    used, _ = number_of(status, "connections-used")
    total = None if free is None or used is None else free + used
    yield _reading(
        "connections-free", free / total * 100 if free is not None and total else None, status, path
    )
    taken, _, path = _growth("latency", status, before, seconds)  # microseconds
    done = _growth("operations", status, before, seconds)[0]
    mean = None if taken is None or done is None else taken / done / 1000 if done else 0.0
    yield _reading("operation-latency", mean, status, path)
    yield from _flow_control(status, before, seconds)


def _flow_control(status: Status, before: Status | None, seconds: float) -> Iterator[Reading]:
    lagged, path = number_of(status, "flow-control-lagged")
    growing = _growth("flow-control-lagged-time", status, before, seconds)[0]
    yield _reading(
        "flow-control-lagged", None if lagged is None else float(bool(lagged) or bool(growing)), status, path
    )
    acquiring, _, path = _growth("flow-control", status, before, seconds)
    yield _reading("flow-control", None if acquiring is None else acquiring / 1000, status, path)


def oplog_window(status: Status, size: float | None, most: float | None) -> Reading:
    """Returns how far back the oplog reaches, in hours. `size`, `most`: its bytes, and those that it may have.

    An oplog that is not full has forgotten nothing yet: how far it reaches back says how old it is.
    """
    earliest, latest = (
        value_at(status, PLACES[name][0].paths[0]) for name in ("oplog-earliest", "oplog-latest")
    )
    if earliest is None or latest is None:
        return _reading("oplog-window", None, status, "oplog")
    if size is None or not most:
        return Reading("oplog-window", None, _host(status), "collStats", "the oplog's size cannot be read")
    if size < FULL * most:
        return Reading("oplog-window", None, absent="the oplog is not full yet")
    return _reading("oplog-window", float(latest.time - earliest.time) / HOUR, status, "oplog")


def _growth(
    what: str, status: Status, before: Status | None, seconds: float
) -> tuple[float | None, Status, str]:
    """Returns how much a counter has grown in a second. A server that was started again counts from 0."""
    now, path = number_of(status, what)
    if now is None:
        return None, status, path
    earlier = None if before is None or _host(before) != _host(status) else number_of(before, what)[0]
    grown = 0.0 if earlier is None or now < earlier or seconds <= 0 else (now - earlier) / seconds
    return grown, status, path


def _reading(name: str, value: float | None, status: Status, path: str) -> Reading:
    how = f"{COMMAND}.{path}"
    problem = "" if value is not None else f"{how} is not in the server's answer"
    return Reading(name, value, _host(status), how, problem)


def _host(status: Status) -> str:
    return str(status.get("host", ""))
