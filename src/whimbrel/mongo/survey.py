"""Answers questions about a whole collection by short statements (see `whimbrel.ports.survey`)."""

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
from whimbrel.mongo.random_sample import with_smaller_samples
from whimbrel.mongo.ranges import Hint, Hops, serving_index, within
from whimbrel.ports import Query

SLICE = 1000  # documents
LEAST = 500  # documents of the smallest slice, however small the batches are
SMALL = 1000  # documents of a collection that is always counted
LONGER = 5  # such a statement may take so many times as long as a write: no lease depends on it
COUNTED = 100_000  # ids in a list whose documents are counted: by the index on _id, in a fraction of a second
SAMPLED = 500  # documents of a random sample
DRAWN = 10  # documents drawn for each key of a spread, so that these are even
SPARSE = 25  # MongoDB reads every document for a random sample of more than one in twenty
FEW = 0.2  # the share of a collection up to which it is cheaper to use the keys that an index yields
GATHERING = 60_000  # milliseconds that the server may work on one cursor over an index


class MongoSurvey:
    """Implements `whimbrel.ports.survey.Survey`. `slice_`: documents of a slice, `milliseconds`: the time limit of a statement."""

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
        ids_listed = listed_ids(query)
        if ids_listed is not None and len(ids_listed) <= COUNTED:
            other_conditions, size = without_id_conditions(query), max(self._slice, LEAST)
            parts = (ids_listed[start : start + size] for start in range(0, len(ids_listed), size))
            number = sum(self._count(all_of({"_id": {"$in": part}}, other_conditions)) for part in parts)
            return number, len(ids_listed) <= size  # an id that is listed twice may be counted twice
        if self.few(query):
            count_of_few = self._count(query, limit=2 * self._slice)
            if count_of_few < 2 * self._slice:
                return count_of_few, True
        try:
            estimate = round(self.share(query) * count)
        except TooSlow:
            estimate = count
        return estimate if ids_listed is None else min(estimate, len(ids_listed)), False

    def few(self, query: Query) -> bool:
        if listed_ids(query) is not None:  # with ranges the whole list would be sent with each batch
            return True
        answered = self._indexed_conditions(query)
        try:
            return answered is not None and self.share(answered) <= FEW
        except TooSlow:
            return False

    def share(self, query: Query) -> float:
        """Returns the share of the documents that satisfies a query: exact in a small collection, else from a random sample."""
        size = self.size()
        if size <= SMALL:
            return (self.count(query, float("inf")) or 0) / max(size, 1)
        stages: list[Mapping[str, Any]] = [
            {"$sample": {"size": max(1, min(SAMPLED, self._slice, size // SPARSE))}},
            {"$facet": {"all": [{"$count": "n"}], "hits": [{"$match": query}, {"$count": "n"}]}},
        ]

        def counted(stages: list[Mapping[str, Any]]) -> Any:
            return next(self._collection.aggregate(stages, maxTimeMS=self._limit, session=self._session))

        with translated():
            row = with_smaller_samples(counted, stages)
        return float(row["hits"][0]["n"] / row["all"][0]["n"]) if row["hits"] else 0.0

    def spread(self, query: Query, size: int) -> Sequence[Key]:
        count = self.size()
        all_examined = count <= SPARSE * size * DRAWN or self.few(query)
        drawn: list[Mapping[str, Any]] = (
            [] if all_examined else [{"$sample": {"size": min(size * DRAWN, count // SPARSE)}}]
        )
        keys = self._drawn([*drawn, {"$match": query}, {"$sample": {"size": size * DRAWN}}])
        if not keys and drawn:
            keys = self._drawn(drawn)
        wanted = min(size, len(keys))
        return [keys[(2 * position + 1) * len(keys) // (2 * wanted)] for position in range(wanted)]

    def _drawn(self, stages: Sequence[Mapping[str, Any]]) -> list[Key]:
        """Returns the keys of the documents that these stages draw, each once, in `_id` order."""
        ordered = [*stages, {"$project": {"_id": 1}}, {"$sort": {"_id": 1}}]

        def keys(stages: list[Mapping[str, Any]]) -> list[Key]:
            batches: RawBatchCursor[Any] = self._collection.aggregate_raw_batches(
                stages, maxTimeMS=self._limit, session=self._session
            )
            return list(dict.fromkeys(Key(document) for batch in batches for document in split(bytes(batch))))

        with translated():
            return with_smaller_samples(keys, ordered)

    def gather(self, query: Query) -> Iterator[Sequence[Key]]:
        with translated():
            batches: RawBatchCursor[Any] = self._collection.find_raw_batches(
                query,
                {"_id": 1},
                batch_size=max(2, self._slice),
                max_time_ms=GATHERING,
                session=self._session,
            )
            try:
                for batch in batches:
                    yield [Key(document) for document in split(bytes(batch))]
            finally:
                batches.close()

    def walk(self, query: Query, after: Key | None) -> Iterator[Sequence[Key]]:
        for where in self.slices(query, after):
            yield self._keys(within(query, where), hint=self._hint(query), sort=[("_id", 1)])

    def ends(self, query: Query, size: int, *, first: bool, seconds: float) -> list[bytes]:
        """Returns the first or the last documents that satisfy a query, by `_id`: as many as are found in time."""
        end, order, documents = time.monotonic() + seconds, 1 if first else -1, list[bytes]()
        for where in self.slices(query) if first else self._hops(query).backward(self._slice):
            documents += self._documents(
                within(query, where),
                limit=size - len(documents),
                sort=[("_id", order)],
                hint=self._hint(query),
            )
            if len(documents) >= size or time.monotonic() > end:
                break
        return documents

    def _hint(self, query: Query) -> Hint:
        return serving_index(self._indexes, query)[0]

    def _hops(self, query: Query) -> Hops:
        index, served = serving_index(self._indexes, query)
        return Hops(self._collection, self._session, index, served, milliseconds=self._limit)

    def slices(self, query: Query, after: Key | None = None) -> Iterator[Range]:
        """Yields the slices behind `after`."""
        return self._hops(query).forward(after, self._slice)

    def _count(self, query: Query, **options: Any) -> int:
        with translated():
            return self._collection.count_documents(
                query, maxTimeMS=self._limit, **options, session=self._session
            )

    def _keys(self, query: Query, **options: Any) -> list[Key]:
        return [Key(document) for document in self._documents(query, projection={"_id": 1}, **options)]

    def _documents(self, query: Query, **options: Any) -> list[bytes]:
        with translated():
            batches: RawBatchCursor[Any] = self._collection.find_raw_batches(
                query, max_time_ms=self._limit, **options, session=self._session
            )
            return [document for batch in batches for document in split(bytes(batch))]

    def _indexed_conditions(self, query: Query) -> Query | None:
        """Returns the conditions by which MongoDB finds the documents, unless it scans a whole index for them."""
        command = {"find": self._collection.name, "filter": query}
        with translated():
            explained = self._collection.database.command(
                "explain", command, verbosity="queryPlanner", session=self._session, codec_options=DOCUMENT_OPTIONS
            )  # fmt: skip
        leaves = list(_leaves(explained["queryPlanner"]["winningPlan"]))
        if not leaves or not all(map(_is_selective, leaves)):
            return None
        fields = {field for leaf in leaves for field in leaf.get("keyPattern", ("_id",))}
        return all_of(
            *(
                {name: condition}
                for name, condition in conditions(query)
                if name in fields or name.startswith("$")
            )
        )


def _leaves(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    plan = plan.get("queryPlan", plan)
    stages = [plan["inputStage"]] if "inputStage" in plan else list(plan.get("inputStages", ()))
    if not stages:
        yield plan
    for stage in stages:
        yield from _leaves(stage)


def _is_selective(leaf: Mapping[str, Any]) -> bool:
    stage = str(leaf.get("stage"))
    if stage in ("IDHACK", "EOF") or stage.startswith("EXPRESS"):
        return True
    if stage != "IXSCAN":
        return False
    first: Sequence[str] = next(iter(leaf["indexBounds"].values()), [])
    entire = list(first) in (["[MinKey, MaxKey]"], ["[MaxKey, MinKey]"])
    return not entire or bool(leaf.get("isSparse") or leaf.get("isPartial"))
