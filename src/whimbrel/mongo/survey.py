"""Questions about a whole collection, in short statements (see `whimbrel.ports.survey`)."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.cursor import RawBatchCursor
from pymongo.read_concern import ReadConcern

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS, Key, split
from whimbrel.domain.migrations.filters import all_of, conditions, listed_ids, without_id_conditions
from whimbrel.domain.runs.batches import Range
from whimbrel.errors import TooSlow
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ranges import Hint, Hops, serving_index, within
from whimbrel.ports import Query

SLICE = 1000  # documents
LEAST = 500  # documents that a slice has, however small the batches are
SMALL = 1000  # documents of a collection that is always counted
LONGER = 5  # times as long as a write may such a statement take: no lease depends on it
COUNTED = 100_000  # ids in a list whose documents are counted: by the index on _id, in a fraction of a second
SAMPLED = 500  # documents of a random sample
SPARSE = 25  # a random sample of more than one in twenty documents makes MongoDB look at all of them
FEW = 0.2  # the part of a collection up to which it pays to go by the keys that an index yields
GATHERING = 60_000  # milliseconds that the server may work on one cursor over an index


class MongoSurvey:
    """See `whimbrel.ports.survey.Survey`. `slice_`: documents that a slice has, `milliseconds`: the time limit of a statement."""

    def __init__(
        self,
        collection: Collection[Any],
        session: ClientSession | None,
        *,
        milliseconds: int,
        slice_: int = SLICE,
    ) -> None:
        self._collection = collection.with_options(
            codec_options=DOCUMENT_OPTIONS, read_concern=ReadConcern("majority")
        )
        self._session, self._slice, self._limit = session, max(slice_, LEAST), milliseconds

    @cached_property
    def _indexes(self) -> Mapping[str, Mapping[str, Any]]:
        with translated():
            return self._collection.index_information(session=self._session)

    def size(self) -> int:
        with translated():
            return self._collection.estimated_document_count()

    def count(self, query: Query, seconds: float) -> int | None:
        end, total = time.monotonic() + seconds, 0
        try:
            for where in self.slices(query):
                if time.monotonic() > end:
                    return None
                total += self._count(within(query, where), hint=self._hint(query))
        except TooSlow:
            return None
        return total

    def exists(self, query: Query, seconds: float) -> bool | None:
        if self.few(query):
            return bool(self._keys(query, limit=1))
        end = time.monotonic() + seconds
        for where in self.slices(query):
            if time.monotonic() > end:
                return None
            if self._keys(within(query, where), limit=1, hint=self._hint(query)):
                return True
        return False

    def about(self, query: Query) -> tuple[int, bool]:
        count = self.size()
        if count <= max(self._slice, SMALL):
            return self.count(query, float("inf")) or 0, True
        listed = listed_ids(query)
        if listed is not None and len(listed) <= COUNTED:
            rest, size = without_id_conditions(query), max(self._slice, LEAST)
            parts = (listed[at : at + size] for at in range(0, len(listed), size))
            number = sum(self._count(all_of({"_id": {"$in": part}}, rest)) for part in parts)
            return number, len(listed) <= size  # one that is listed twice may be counted twice
        if self.few(query):
            found = self._count(query, limit=2 * self._slice)
            if found < 2 * self._slice:
                return found, True
        try:
            about = round(self.share(query) * count)
        except TooSlow:
            about = count
        return about if listed is None else min(about, len(listed)), False

    def few(self, query: Query) -> bool:
        if listed_ids(query) is not None:  # by ranges the whole list would travel with each batch
            return True
        answered = self._answered(query)
        try:
            return answered is not None and self.share(answered) <= FEW
        except TooSlow:
            return False

    def share(self, query: Query) -> float:
        """About which part of the documents satisfies a query: exactly where they are few, else from a random sample."""
        size = self.size()
        if size <= SMALL:
            return (self.count(query, float("inf")) or 0) / max(size, 1)
        stages: list[Mapping[str, Any]] = [
            {"$sample": {"size": max(1, min(SAMPLED, self._slice, size // SPARSE))}},
            {"$facet": {"all": [{"$count": "n"}], "hits": [{"$match": query}, {"$count": "n"}]}},
        ]
        with translated():
            row = next(self._collection.aggregate(stages, maxTimeMS=self._limit, session=self._session))
        return float(row["hits"][0]["n"] / row["all"][0]["n"]) if row["hits"] else 0.0

    def gather(self, query: Query) -> Iterator[Sequence[Key]]:
        with translated():
            found: RawBatchCursor[Any] = self._collection.find_raw_batches(
                query,
                {"_id": 1},
                batch_size=max(2, self._slice),
                max_time_ms=GATHERING,
                session=self._session,
            )
            try:
                for batch in found:
                    yield [Key(each) for each in split(bytes(batch))]
            finally:
                found.close()

    def walk(self, query: Query, after: Key | None) -> Iterator[Sequence[Key]]:
        for where in self.slices(query, after):
            yield self._keys(within(query, where), hint=self._hint(query), sort=[("_id", 1)])

    def ends(self, query: Query, size: int, *, first: bool, seconds: float) -> list[bytes]:
        """The first or the last documents that satisfy a query, by `_id`: as many as are found in time."""
        end, order, found = time.monotonic() + seconds, 1 if first else -1, list[bytes]()
        for where in self.slices(query) if first else self._hops(query).backward(self._slice):
            found += self._documents(
                within(query, where), limit=size - len(found), sort=[("_id", order)], hint=self._hint(query)
            )
            if len(found) >= size or time.monotonic() > end:
                break
        return found

    def _hint(self, query: Query) -> Hint:
        return serving_index(self._indexes, query)[0]

    def _hops(self, query: Query) -> Hops:
        index, served = serving_index(self._indexes, query)
        return Hops(self._collection, self._session, index, served, milliseconds=self._limit)

    def slices(self, query: Query, after: Key | None = None) -> Iterator[Range]:
        """The slices behind `after`."""
        return self._hops(query).forward(after, self._slice)

    def _count(self, query: Query, **options: Any) -> int:
        with translated():
            return self._collection.count_documents(
                query, maxTimeMS=self._limit, **options, session=self._session
            )

    def _keys(self, query: Query, **options: Any) -> list[Key]:
        return [Key(each) for each in self._documents(query, projection={"_id": 1}, **options)]

    def _documents(self, query: Query, **options: Any) -> list[bytes]:
        with translated():
            found: RawBatchCursor[Any] = self._collection.find_raw_batches(
                query, max_time_ms=self._limit, **options, session=self._session
            )
            return [each for batch in found for each in split(bytes(batch))]

    def _answered(self, query: Query) -> Query | None:
        """The conditions that MongoDB finds the documents by, if it does so without looking through the whole of an index."""
        command = {"find": self._collection.name, "filter": query}
        with translated():
            explained = self._collection.database.command(
                "explain", command, verbosity="queryPlanner", session=self._session, codec_options=DOCUMENT_OPTIONS
            )  # fmt: skip
        leaves = list(_leaves(explained["queryPlanner"]["winningPlan"]))
        if not leaves or not all(map(_narrow, leaves)):
            return None
        fields = {field for each in leaves for field in each.get("keyPattern", ("_id",))}
        return all_of(
            *({name: each} for name, each in conditions(query) if name in fields or name.startswith("$"))
        )


def _leaves(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    plan = plan.get("queryPlan", plan)
    inner = [plan["inputStage"]] if "inputStage" in plan else list(plan.get("inputStages", ()))
    if not inner:
        yield plan
    for each in inner:
        yield from _leaves(each)


def _narrow(leaf: Mapping[str, Any]) -> bool:
    stage = str(leaf.get("stage"))
    if stage in ("IDHACK", "EOF") or stage.startswith("EXPRESS"):
        return True
    if stage != "IXSCAN":
        return False
    first: Sequence[str] = next(iter(leaf["indexBounds"].values()), [])
    whole = list(first) in (["[MinKey, MaxKey]"], ["[MaxKey, MinKey]"])
    return not whole or bool(leaf.get("isSparse") or leaf.get("isPartial"))
