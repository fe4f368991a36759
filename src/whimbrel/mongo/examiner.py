"""Looks at the user's collection without changing it (see `whimbrel.ports.examiner`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.cursor import RawBatchCursor

from whimbrel.domain.bson.raw_bson import NULL, STRING, Key, elements, keys_under, split
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.runs.batches import Batch, Range
from whimbrel.mongo import update_statements
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ranges import BY_ID, Hint, within
from whimbrel.ports import Marked, Page, Query

T = TypeVar("T")
UNDEFINED = 0x06


class ByIndex(Protocol):
    """Calls a function with the index that serves a query."""

    def __call__(self, query: Query, ask: Callable[[Hint, Query], T], /) -> T: ...


class MongoExaminer:
    """Implements `whimbrel.ports.examiner.Examiner`. `majority`: the collection with that read concern."""

    def __init__(
        self, majority: Collection[Any], session: ClientSession, by_index: ByIndex, *, milliseconds: int
    ) -> None:
        self._collection, self._by_index = majority, by_index
        self._session = session
        self._limit = milliseconds

    def marks(self, where: Range, path: str) -> Sequence[Marked]:
        extent = {"low": {"$first": "$_id"}, "high": {"$last": "$_id"}}  # cheaper than $min and $max
        pipeline: list[Mapping[str, Any]] = [
            {"$match": within({}, where)},
            {"$sort": {"_id": 1}},
            {"$group": {"_id": f"${path}", "n": {"$sum": 1}, **extent}},
        ]
        return [_marked(row) for row in self._aggregate(pipeline, collation=update_statements.SIMPLE)]

    def count(self, where: Range, query: Query) -> int:
        return self._count(within(query, where))

    def _count(self, query: Query) -> int:
        with translated():
            return self._collection.count_documents(
                query, hint=BY_ID, maxTimeMS=self._limit, session=self._session
            )

    def keys(self, where: Range | Sequence[Key], query: Query, limit: int) -> Sequence[Key]:
        return [Key(document) for document in self._find(where, query, limit, {"_id": 1})]

    def read(
        self, where: Range | Sequence[Key], query: Query, limit: int, *, after: Key | None = None
    ) -> Page:
        """Returns the documents of the server's first answer, which MongoDB ends at 16 MB."""
        if isinstance(where, Range):
            matching = within(query, where)
            return self._by_index(query, lambda index, _: self._page(matching, index, limit))
        by_ids = all_of({"_id": keys_under("$in", where)}, within(query, Range(after, None)))
        return self._page(by_ids, BY_ID, limit)

    def _page(self, query: Query, index: Hint, limit: int) -> Page:
        with translated():
            cursor = self._raw(query, index, limit, None, batch_size=limit)
            try:
                documents = tuple(split(bytes(next(cursor, b""))))
                return Page(documents, end=cursor.cursor_id == 0 and len(documents) < limit)
            finally:
                cursor.close()

    def outside(self, where: Range, batch: Batch, query: Query, limit: int) -> tuple[int, Sequence[Key]]:
        out_of_range: list[Mapping[str, Any]] = []
        if batch.lo is not None:
            out_of_range.append({"$lte": ["$_id", batch.lo.literal()]})
        if batch.hi is not None:
            out_of_range.append({"$gt": ["$_id", batch.hi.literal()]})
        matching = within(query, where, *([{"$or": out_of_range}] if out_of_range else []))
        keys = [Key(document) for document in self._matching(matching, BY_ID, limit, {"_id": 1})]
        return (self._count(matching) if len(keys) == limit else len(keys)), keys

    def applied(
        self, keys: Sequence[Key], stages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> Sequence[bytes]:
        pipeline: list[Mapping[str, Any]] = [
            {"$match": {"_id": keys_under("$in", keys)}},
            {"$sort": {"_id": 1}},
            *stages,
        ]
        return self._aggregate(pipeline, let=dict(variables))

    def _find(
        self, where: Range | Sequence[Key], query: Query, limit: int, fields: Mapping[str, Any] | None
    ) -> tuple[bytes, ...]:
        if not isinstance(where, Range):
            by_ids = all_of({"_id": keys_under("$in", where)}, query)
            return self._matching(by_ids, BY_ID, limit, fields)
        matching = within(query, where)
        return self._by_index(query, lambda index, _: self._matching(matching, index, limit, fields))

    def _matching(
        self, query: Query, index: Hint, limit: int, fields: Mapping[str, Any] | None
    ) -> tuple[bytes, ...]:
        with translated():
            return tuple(
                document
                for batch in self._raw(query, index, limit, fields)
                for document in split(bytes(batch))
            )

    def _raw(
        self, query: Query, index: Hint, limit: int, fields: Mapping[str, Any] | None, **options: Any
    ) -> RawBatchCursor[Any]:
        return self._collection.find_raw_batches(
            query, fields, sort=[("_id", 1)], hint=index, limit=limit, max_time_ms=self._limit, session=self._session, **options
        )  # fmt: skip

    def _aggregate(self, pipeline: Sequence[Mapping[str, Any]], **options: Any) -> tuple[bytes, ...]:
        with translated():
            batches = self._collection.aggregate_raw_batches(
                list(pipeline), hint=BY_ID, maxTimeMS=self._limit, session=self._session, **options
            )
            return tuple(document for batch in batches for document in split(bytes(batch)))


def _marked(row: bytes) -> Marked:
    fields = elements(row)
    kind, value = fields[b"_id"]
    return Marked(
        value=value[4:-1].decode("utf-8", "replace") if kind == STRING else None,
        missing=kind in (NULL, UNDEFINED),
        count=int.from_bytes(fields[b"n"][1], "little", signed=True),
        low=Key.of_value(*fields[b"low"]),
        high=Key.of_value(*fields[b"high"]),
    )
