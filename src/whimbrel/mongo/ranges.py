"""Bounds statements by ranges of `_id`, and cuts a collection into such ranges.

A plain `{_id: {$gt: x}}` matches one BSON type only; the same as an `$expr` matches all types, with tight bounds
on the index (hole H35). A covered plain hop is two to three times cheaper, so hops are plain within a
type and use `$expr` where the type changes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

from bson.raw_bson import RawBSONDocument
from bson.regex import Regex
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import INT32, INT64, OBJECT_ID, STRING, Key, document, element
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.runs.batches import Range
from whimbrel.errors import TooSlow
from whimbrel.mongo.driver_errors import translated

if TYPE_CHECKING:
    from whimbrel.ports import CutPoints, Query

Hint = str | dict[str, int]
# By its key, not its name: in a clustered collection the name may be any.
BY_ID: Hint = {"_id": 1}
PLAIN = frozenset({STRING, OBJECT_ID, INT32, INT64})  # types of keys whose plain comparison has no exceptions


def within(query: Query, where: Range, *conditions: Mapping[str, Any], field: str = "_id") -> Query:
    """Returns a query over a range of `field` with further `$expr` conditions: by bounds on its index, for every type of key.

    Between two keys of one type there are keys of that type only: the plain comparison finds them all, and costs less
    than the `$expr`, which MongoDB evaluates again for each document. Elsewhere each comparison has an `$expr` of
    its own: from an `$and` with only one comparison left, because `$$NOW` was folded away, MongoDB makes no bounds at all
    (hole H61).
    """
    low, high = where.lo, where.hi
    if low is not None and high is not None and low.kind == high.kind and low.kind in PLAIN:
        compared = document(
            [element(low.kind, b"$gt", low.payload), element(high.kind, b"$lte", high.payload)]
        )
        return all_of(query, {field: compared}, *({"$expr": condition} for condition in conditions))
    bounds = [{"$gt": [f"${field}", low.literal()]}] if low is not None else []
    bounds += [{"$lte": [f"${field}", high.literal()]}] if high is not None else []
    return all_of(query, *({"$expr": condition} for condition in (*bounds, *conditions)))


def equalities(query: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields that a query compares with one scalar, by plain equality."""
    equal: dict[str, Any] = {}
    for name, clause in query.items():
        if name == "$and":
            for inner in clause:
                equal |= equalities(inner)
        elif (
            not name.startswith("$")
            and clause is not None
            and not isinstance(clause, Mapping | list | tuple | Regex | re.Pattern)
        ):
            equal[name] = clause
    return equal


def serving_index(
    indexes: Mapping[str, Mapping[str, Any]], query: Mapping[str, Any]
) -> tuple[Hint, dict[str, Any]]:
    """Returns the index that yields documents of a query in `_id` order, and the equalities that it serves.

    It is on fields that the query compares by equality, followed by `_id`. Where there is none: the
    index on `_id` and no equalities.
    """
    equal, collation = equalities(query), _collation(indexes)
    best: tuple[Hint, dict[str, Any]] = (BY_ID, {})
    for name, index in indexes.items():
        fields = [(field, direction) for field, direction in index["key"]]
        plain = not any(index.get(option) for option in ("sparse", "hidden", "partialFilterExpression"))
        plain = plain and index.get("collation") == collation
        sorted_ = all(direction in (1, -1) for _, direction in fields)  # not hashed, not geographic
        if not plain or not sorted_ or fields[-1:] != [("_id", 1)]:
            continue
        served = {field: equal[field] for field, _ in fields[:-1] if field in equal}
        if len(served) == len(fields) - 1 and len(served) > len(best[1]):
            best = name, served
    return best


def _collation(indexes: Mapping[str, Mapping[str, Any]]) -> Any:
    """Returns a collection's collation, which is that of its index on `_id`; None is the simple one."""
    return next((index.get("collation") for index in indexes.values() if index["key"] == [("_id", 1)]), None)


class Hops:
    """Walks a collection in `_id` order, so many documents at a time, without an open cursor.

    `index` yields documents in that order; only those that satisfy `served` are counted.
    """

    def __init__(
        self,
        collection: Collection[Any],
        session: ClientSession | None,
        index: Hint,
        served: Query,
        *,
        milliseconds: int,
    ) -> None:
        self._raw: Collection[RawBSONDocument] = collection.with_options(
            codec_options=collection.codec_options.with_options(document_class=RawBSONDocument)
        )
        self._session, self._index, self._served, self._limit = session, index, served, milliseconds

    def cuts(self, after: Key | None, size: int, most: int, seconds: float = inf) -> CutPoints:
        """Returns up to `most` cut points, fewer where that takes longer than `seconds`; raises TooSlow where there is not even one."""
        from whimbrel.ports import CutPoints  # noqa: PLC0415  commands that only look need none

        keys: list[Key] = []
        end = time.monotonic() + seconds
        while len(keys) < most and not (keys and time.monotonic() > end):
            try:
                key = self._hop(after, size)
                if key is None:
                    last, count = self._last_cut(after, size)
                    return CutPoints((*keys, *last), len(keys) * size + count, end=True)
            except TooSlow:
                if not keys:
                    raise
                break
            keys.append(key)
            after = key
        return CutPoints(tuple(keys), len(keys) * size, end=False)

    def forward(self, after: Key | None, size: int) -> Iterator[Range]:
        """Yields ranges of `size` documents behind `after`, up to the last document."""
        end = False
        while not end:
            points = self.cuts(after, size, 1)
            for key in points.keys:
                yield Range(after, key)
                after = key
            end = points.end

    def backward(self, size: int) -> Iterator[Range]:
        """Yields the same ranges from the end to the beginning."""
        before: Key | None = None
        while (low := self._nth(within(self._served, Range(None, before)), size + 1, order=-1)) is not None:
            yield Range(low, before)
            before = low
        yield Range(None, before)

    def _hop(self, after: Key | None, size: int) -> Key | None:
        if after is None:
            return self._nth(self._served, size)
        plain = {"_id": document([element(after.kind, b"$gt", after.payload)])}
        same_type = {"$and": [self._served, plain]} if self._served else plain
        return self._nth(same_type, size) or self._nth(self._query_after(after), size)

    def _query_after(self, after: Key | None) -> Query:
        return within(self._served, Range(after, None))

    def _nth(self, query: Query, size: int, *, order: int = 1) -> Key | None:
        return next(self._find(query, skip=size - 1, order=order), None)

    def _last_cut(self, after: Key | None, size: int) -> tuple[list[Key], int]:
        last = next(self._find(self._query_after(after), skip=0, order=-1), None)
        if last is None:
            return [], 0
        with translated():
            count = self._raw.count_documents(
                self._query_after(after),
                limit=size,
                hint=self._index,
                maxTimeMS=self._limit,
                session=self._session,
            )
        return [last], count

    def _find(self, query: Query, *, skip: int, order: int) -> Iterator[Key]:
        with translated():
            rows = self._raw.find(
                query,
                {"_id": 1},
                sort=[("_id", order)],
                skip=skip,
                limit=1,
                hint=self._index,
                max_time_ms=self._limit,
                session=self._session,
            )
            yield from (Key(bytes(row.raw)) for row in rows)
