"""Where each number stands in MongoDB's `serverStatus`, by the server's version: the one table, which docs/health.md repeats for people.

https://www.mongodb.com/docs/manual/reference/command/serverStatus/ of 6.0, 7.0 and 8.0. A number that is in none of its places is unknown, never 0: a
server that renames it must not look healthy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a number stands from a version on. Several paths are added up, and all of them must be there."""

    since: str
    paths: tuple[Path, ...]

    @property
    def shown(self) -> str:
        """The path for people, with `*` where several differ."""
        names = zip(*self.paths, strict=True)
        return ".".join(each[0] if len(set(each)) == 1 else "*" for each in names)


def _one(*path: str) -> tuple[Place, ...]:
    return (Place("6.0", (path,)),)


def _both(since: str, *path: str) -> Place:
    """Reads and writes, which the server lists apart: `*` stands for either."""
    return Place(
        since, tuple(tuple(kind if name == "*" else name for name in path) for kind in ("read", "write"))
    )


_CACHE = ("wiredTiger", "cache")

# By what is measured: its places, the newest server's first. The first that exists counts.
PLACES: Mapping[str, Sequence[Place]] = MappingProxyType({
    "cache-size": _one(*_CACHE, "maximum bytes configured"),
    "cache-dirty": _one(*_CACHE, "tracked dirty bytes in the cache"),
    "cache-updates": _one(*_CACHE, "bytes allocated for updates"),
    "cache-used": _one(*_CACHE, "bytes currently in the cache"),
    "application-evictions": _one(*_CACHE, "pages evicted by application threads"),
    "write-conflicts": _one("metrics", "operation", "writeConflicts"),
    "flow-control": _one("flowControl", "timeAcquiringMicros"),
    "flow-control-lagged": _one("flowControl", "isLagged"),
    "flow-control-lagged-time": _one("flowControl", "isLaggedTimeMicros"),
    "connections-used": _one("connections", "current"),
    "connections-free": _one("connections", "available"),
    # Of 6.0 the tickets are a fixed number. From 7.0 on the server changes it, so that few free ones say nothing: the queue does.
    "ticket-queue": (
        _both("8.0", "queues", "execution", "*", "normalPriority", "queueLength"),
        _both("7.0", "wiredTiger", "concurrentTransactions", "*", "normalPriority", "queueLength"),
        _both("7.0", "wiredTiger", "concurrentTransactions", "*", "queueLength"),
        Place("6.0", (("globalLock", "currentQueue", "readers"), ("globalLock", "currentQueue", "writers"))),
    ),
    "latency": (Place("6.0", (("opLatencies", "reads", "latency"), ("opLatencies", "writes", "latency"))),),
    "operations": (Place("6.0", (("opLatencies", "reads", "ops"), ("opLatencies", "writes", "ops"))),),
    "oplog-earliest": _one("oplog", "earliestOptime"),
    "oplog-latest": _one("oplog", "latestOptime"),
})  # fmt: skip


def value_at(document: Mapping[str, Any], path: Path) -> Any:
    """Returns what stands at a path; None where nothing does."""
    value: Any = document
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def number_of(status: Mapping[str, Any], what: str) -> tuple[float | None, str]:
    """Returns a number of the table, and the path that it was read at; None, and the newest path, where it is in none of its places."""
    for place in PLACES[what]:
        numbers = [value_at(status, path) for path in place.paths]
        found = [float(number) for number in numbers if isinstance(number, int | float)]
        if len(found) == len(place.paths):
            return sum(found), place.shown
    return None, PLACES[what][0].shown
