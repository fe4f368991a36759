"""What somebody asked for when a run was started. Nothing depends on it: it tells people one run from another."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.raw_bson import Key, decoded

NAMED = 10  # ids that are stored of those that were named; all of them are in the run's batches
LONGEST = 1000  # bytes of these ids
LONGEST_FILTER = 100_000  # bytes; a longer filter is only in the run's own filter


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """`route`: where the request came in, such as `POST /migrate/bulk` or `whimbrel run`; empty: unknown."""

    route: str = ""
    filter: bytes | None = None  # as it was given, BSON; None: there was none
    limit: int | None = None
    ids: tuple[Key, ...] = ()  # the first of those that were named
    named: int | None = None  # how many; None: not a run over ids
    abridged: bool = False  # the filter was too long, and is not stored here

    @property
    def query(self) -> dict[str, Any] | None:
        return None if self.filter is None else decoded(self.filter)


def requested(
    filter_: dict[str, Any] | None = None, *, limit: int | None = None, ids: Sequence[Key] | None = None
) -> Request:
    """Returns what was asked for, without a route yet."""
    stored = None if filter_ is None else encoded(filter_)
    abridged = stored is not None and len(stored) > LONGEST_FILTER
    return Request(
        filter=None if abridged else stored, abridged=abridged, limit=limit, ids=_first(ids or ()),
        named=None if ids is None else len(ids),
    )  # fmt: skip


def with_route(request: Request | None, route: str) -> Request:
    """Returns the request with the route where it came in."""
    return replace(request or Request(), route=route)


def _first(ids: Sequence[Key]) -> tuple[Key, ...]:
    first, size = list[Key](), 0
    for key in ids[:NAMED]:
        size += len(key.raw)
        if size > LONGEST:
            break
        first.append(key)
    return tuple(first)
