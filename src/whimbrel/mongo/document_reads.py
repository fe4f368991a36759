"""Reads the user's collection: range planning, documents as raw bytes, evidence, counts.

See `whimbrel.mongo.documents`, which writes.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, TypeVar

from bson.timestamp import Timestamp
from pymongo import ReadPreference
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.cursor import RawBatchCursor
from pymongo.read_concern import ReadConcern

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS, Key, keys_under, split, text_at
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.migrations.marks import DONE, stamp
from whimbrel.domain.migrations.updates import Update
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.run import Counts
from whimbrel.errors import Refused, Transient
from whimbrel.mongo import update_statements
from whimbrel.mongo.collection_identity import check_identity
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.examiner import MongoExaminer
from whimbrel.mongo.query_plans import shortened, shown
from whimbrel.mongo.random_sample import sample_size, with_smaller_samples
from whimbrel.mongo.ranges import BY_ID, Hint, Hops, serving_index, within
from whimbrel.mongo.survey import LONGER, SLICE, SPARSE, MongoSurvey
from whimbrel.ports import CutPoints, Page, Query, Write

T = TypeVar("T")
SAMPLED = 500  # documents from which the size of all is estimated, where there are too many to measure
FORGOTTEN = frozenset({72, 239, 246, 20})  # error codes: the time is too old, or the server keeps no history


class DocumentReads:
    """The reading part of `whimbrel.ports.Documents`."""

    def __init__(
        self,
        session: ClientSession,
        database: str,
        collection: str,
        *,
        statement_seconds: float,
        uuid: bytes | None = None,
    ) -> None:
        self._uuid, self._session = uuid, session
        self._collection: Collection[dict[str, Any]] = session.client[database].get_collection(
            collection, codec_options=DOCUMENT_OPTIONS, read_preference=ReadPreference.PRIMARY
        )
        self._majority = self._collection.with_options(read_concern=ReadConcern("majority"))
        self._limit = int(statement_seconds * 1000)
        self._known_indexes: Mapping[str, Any] | None = None

    @property
    def examiner(self) -> MongoExaminer:
        return MongoExaminer(self._majority, self._session, self._by_index, milliseconds=self._limit)

    def check_identity(self) -> None:
        check_identity(self._collection.database, self._collection.name, self._uuid, self._session)

    @property
    def time(self) -> Timestamp | None:
        return self._session.operation_time

    # planning and reading

    def survey(self, size: int) -> MongoSurvey:
        return MongoSurvey(self._collection, self._session, milliseconds=LONGER * self._limit, slice_=size)

    def cuts(
        self, after: Key | None, eligible: Query, size: int, most: int, seconds: float = inf
    ) -> CutPoints:
        def hop(index: Hint, served: Query) -> CutPoints:
            hops = Hops(self._collection, self._session, index, served, milliseconds=LONGER * self._limit)
            return hops.cuts(after, size, most, seconds)

        return self._by_index(eligible, hop)

    def _by_index(self, eligible: Query, ask: Callable[[Hint, Query], T]) -> T:
        """Calls `ask` with the index that serves a query and what it serves; with the one on `_id` if the index is dropped."""
        if self._known_indexes is None:
            with translated():
                self._known_indexes = self._collection.index_information(session=self._session)
        try:
            return ask(*serving_index(self._known_indexes, eligible))
        except Refused as error:
            if "hint provided" not in str(error):
                raise
            self._known_indexes = {}
            return ask(BY_ID, {})

    def read(self, where: Range, eligible: Query, limit: int) -> Page:
        query = within(eligible, where)
        return self._by_index(eligible, lambda index, _: self._page(query, hint=index, limit=limit))

    def read_named(self, keys: Sequence[Key], eligible: Query, after: Key | None = None) -> Page:
        query = all_of({"_id": keys_under("$in", keys)}, within(eligible, Range(after, None)))
        return self._page(query, hint=BY_ID, limit=len(keys) + 1)

    def _page(self, query: Query, *, hint: Hint, limit: int) -> Page:
        """Returns the documents of the server's first answer, which MongoDB ends at 16 MB."""
        with translated():
            cursor = self._find(query, hint=hint, limit=limit, batch_size=limit)
            try:
                documents = split(bytes(next(cursor, b"")))
                return Page(tuple(documents), end=cursor.cursor_id == 0 and len(documents) < limit)
            finally:
                cursor.close()

    def read_keys(self, keys: Sequence[Key], eligible: Query) -> tuple[bytes, ...]:
        return self._all({"$and": [{"_id": keys_under("$in", keys)}, eligible]}, hint=BY_ID)

    def present(self, keys: Sequence[Key]) -> tuple[Key, ...]:
        query = {"_id": keys_under("$in", keys)}
        return tuple(map(Key, self._all(query, projection={"_id": 1}, hint=BY_ID)))

    def keys(self, where: Range, eligible: Query, limit: int) -> tuple[Key, ...]:
        def find(index: Hint, _: Query) -> tuple[Key, ...]:
            query = within(eligible, where)
            return tuple(map(Key, self._all(query, projection={"_id": 1}, hint=index, limit=limit)))

        return self._by_index(eligible, find)

    def nth(self, where: Range, n: int) -> Key | None:
        query = within({}, where)
        rows = self._all(query, projection={"_id": 1}, hint=BY_ID, skip=n - 1, limit=1)
        return Key(rows[0]) if rows else None

    def _all(self, query: Query, **options: Any) -> tuple[bytes, ...]:
        with translated():
            return tuple(
                document for batch in self._find(query, **options) for document in split(bytes(batch))
            )

    def _find(self, query: Query, **options: Any) -> RawBatchCursor[Any]:
        return self._collection.find_raw_batches(
            query, sort=[("_id", 1)], max_time_ms=self._limit, session=self._session, **options
        )

    # evidence

    def evidence(self, where: Range | Sequence[Key], path: str, token: str) -> Counts:
        values = {stamp(token, outcome): outcome for outcome in DONE}
        pipeline: list[Mapping[str, Any]] = [
            {"$match": _query_over(where, {path: {"$in": list(values)}})},
            {"$group": {"_id": f"${path}", "n": {"$sum": 1}}},
        ]
        with translated():
            rows = self._majority.aggregate(
                pipeline, hint=BY_ID, collation=update_statements.SIMPLE, session=self._session
            )
            counted = {values[row["_id"]]: int(row["n"]) for row in rows}
        return Counts(**counted)

    def tokens(self, keys: Sequence[Key], path: str) -> dict[Key, Any]:
        with translated():
            batches: RawBatchCursor[Any] = self._majority.find_raw_batches(
                {"_id": keys_under("$in", keys), path: {"$exists": True}}, {path: 1},
                hint=BY_ID, collation=update_statements.SIMPLE, session=self._session,
            )  # fmt: skip
            documents = [document for batch in batches for document in split(bytes(batch))]
        return {Key.of_document(row): text_at(row, path.encode().split(b".")) for row in documents}

    def served(self, eligible: Query) -> bool:
        return self._by_index(eligible, lambda index, _: index != BY_ID)

    def holders(
        self, where: Range | Sequence[Key], query: Query, status: str, path: str
    ) -> Mapping[tuple[str, str | None], int]:
        pipeline: list[Mapping[str, Any]] = [
            {"$match": _query_over(where, query)},
            {"$group": {"_id": {"s": f"${status}", "t": f"${path}"}, "n": {"$sum": 1}}},
            {"$limit": 10_000},
        ]

        def ask(index: Hint, _: Query) -> Mapping[tuple[str, str | None], int]:
            with translated():
                rows = self._majority.aggregate(
                    pipeline, hint=index, maxTimeMS=self._limit, session=self._session
                )
                counts: Counter[tuple[str, str | None]] = Counter()
                for row in rows:
                    token = row["_id"].get("t")
                    counts[row["_id"].get("s"), token if isinstance(token, str) else None] += int(row["n"])
                return counts

        return self._by_index(query, ask) if isinstance(where, Range) else ask(BY_ID, {})

    def bearing(self, where: Range, eligible: Query, path: str, limit: int) -> list[tuple[Key, str | None]]:
        query, names = within(eligible, where), path.encode().split(b".")

        def find(index: Hint, _: Query) -> list[tuple[Key, str | None]]:
            rows = self._all(query, projection={path: 1}, hint=index, limit=limit)
            return [(Key.of_document(row), text_at(row, names)) for row in rows]

        return self._by_index(eligible, find)

    def count(self, where: Range | Sequence[Key], eligible: Query) -> int:
        with translated():
            return self._majority.count_documents(
                _query_over(where, eligible), hint=BY_ID, session=self._session
            )

    def count_at(self, time: Timestamp | None, where: Range | Sequence[Key], eligible: Query) -> int | None:
        if time is None:
            return None
        command = {
            "aggregate": self._collection.name, "cursor": {}, "hint": BY_ID,
            "pipeline": [{"$match": _query_over(where, eligible)}, {"$count": "n"}],
            "readConcern": {"level": "snapshot", "atClusterTime": time},
        }  # fmt: skip
        try:
            with translated():
                # Without the session, which may not choose the time that it reads at.
                reply = self._collection.database.command(command, codec_options=DOCUMENT_OPTIONS)
        except (Refused, Transient) as error:
            if getattr(error.__cause__, "code", None) in FORGOTTEN:
                return None
            raise
        return int(reply["cursor"]["firstBatch"][0]["n"]) if reply["cursor"]["firstBatch"] else 0

    def explain(self, where: Range | Sequence[Key], update: Update | None, write: Write) -> str:
        query = _query_over(where, write.eligible)
        command: dict[str, Any] = {"find": self._collection.name, "filter": query, "hint": BY_ID}
        if update is not None:
            statement = {
                "q": query,
                "u": update_statements.marked(update, write),
                "multi": True,
                "hint": BY_ID,
            }
            command = {"update": self._collection.name, "updates": [statement]}
        with translated():
            explained = self._collection.database.command(
                "explain", command, verbosity="queryPlanner", session=self._session, codec_options=DOCUMENT_OPTIONS
            )  # fmt: skip
        plan = shortened(explained["queryPlanner"]["winningPlan"])
        return f"the statement is {shown(command)} and its plan {shown(plan)}"

    def weigh(self, eligible: Query, paths: Sequence[str], seconds: float) -> tuple[int, int, bool]:
        weight = {"$bsonSize": {f"p{number}": f"${path}" for number, path in enumerate(paths)}}
        group = {"$group": {"_id": None, "n": {"$sum": 1}, "bytes": {"$sum": weight}}}

        def weighed(*stages: Mapping[str, Any], **options: Any) -> tuple[int, int]:
            rows = self._collection.aggregate(
                [*stages, group], session=self._session, maxTimeMS=self._limit, **options
            )
            return next(((int(row["n"]), int(row["bytes"])) for row in rows), (0, 0))

        end, number, size = time.monotonic() + seconds, 0, 0
        survey = self.survey(SLICE)
        for where in survey.slices({}):
            if time.monotonic() > end:
                count = survey.size()
                drawn = max(1, min(SAMPLED, count // SPARSE))
                with translated():
                    number, size, drawn = with_smaller_samples(
                        lambda stages: (*weighed(*stages), sample_size(stages)),
                        [{"$sample": {"size": drawn}}, {"$match": eligible}],
                    )
                return number * count // drawn, size * count // drawn, False
            with translated():
                more_documents, more_bytes = weighed({"$match": within(eligible, where)}, hint=BY_ID)
            number, size = number + more_documents, size + more_bytes
        return number, size, True


def _query_over(where: Range | Sequence[Key], query: Query) -> Query:
    if isinstance(where, Range):
        return within(query, where)
    return all_of({"_id": keys_under("$in", where)}, query)
