"""What somebody asked for when a run was started. Nothing depends on it: it tells people one run from another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.raw_bson import Key, decoded

NAMED = 10  # ids that are kept of those that were named; all of them are in the run's batches
LONGEST = 1000  # bytes of those
LONGEST_FILTER = 100_000  # bytes; the run's own filter has what is longer


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """`route`: which door, such as `POST /migrate/bulk` or `whimbrel run`; empty: not told."""

    route: str = ""
    filter: bytes | None = None  # as it was given, BSON; None: none was
    limit: int | None = None
    ids: tuple[Key, ...] = ()  # the first of those that were named
    named: int | None = None  # how many; None: a run of no ids
    abridged: bool = False  # the filter was too long, and is not in here

    @property
    def query(self) -> dict[str, Any] | None:
        return None if self.filter is None else decoded(self.filter)


def requested(
    filter_: dict[str, Any] | None = None, *, limit: int | None = None, ids: Sequence[Key] | None = None
) -> Request:
    """What was asked for, of no door yet."""
    kept = None if filter_ is None else encoded(filter_)
    abridged = kept is not None and len(kept) > LONGEST_FILTER
    return Request(
        filter=None if abridged else kept, abridged=abridged, limit=limit, ids=_first(ids or ()),
        named=None if ids is None else len(ids),
    )  # fmt: skip


def through(request: Request | None, route: str) -> Request:
    """The same, asked for through this door."""
    return replace(request or Request(), route=route)


def _first(ids: Sequence[Key]) -> tuple[Key, ...]:
    found, size = list[Key](), 0
    for each in ids[:NAMED]:
        size += len(each.raw)
        if size > LONGEST:
            break
        found.append(each)
    return tuple(found)
