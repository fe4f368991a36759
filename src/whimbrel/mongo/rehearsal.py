"""Samples a collection for a dry run, and runs MongoDB's own engine on documents sent with the command (`$documents`). Writes nothing."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from whimbrel.domain.bson.raw_bson import (
    ARRAY,
    DOCUMENT,
    DOCUMENT_OPTIONS,
    RAW,
    Key,
    document,
    element,
    elements,
    iterate_fields,
    keys_under,
    literal_documents,
)
from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.changes import Skipped, Unchanged
from whimbrel.domain.migrations.pipelines import as_pipeline, parse_failure
from whimbrel.errors import Refused, TooSlow
from whimbrel.mongo import update_statements
from whimbrel.mongo.driver_errors import sentence, translated
from whimbrel.mongo.random_sample import with_smaller_samples
from whimbrel.mongo.survey import LEAST, SPARSE, MongoSurvey
from whimbrel.mongo.update_commands import failed_document, packed
from whimbrel.ports import Choice, Clash, GuardedChange, Query, UniqueIndex, Validator, Write

ROOM = 8 * 1024 * 1024  # bytes of documents that travel in one command
IMMUTABLE = 66
LOOKED_AT = 1000  # documents from which a sample is chosen
DRAWN = 25  # documents that are drawn for each eligible one, where the filter is slow
LOOKING = 0.5  # seconds to look for the first or last eligible documents
ENGINE = 10_000  # milliseconds for documents that are sent with the command: no collection is touched
PREFIX = "PlanExecutor error during aggregation :: caused by :: "


class MongoRehearsal:
    """Implements `whimbrel.ports.Rehearsal`."""

    def __init__(
        self, client: MongoClient[Any], database: str, collection: str, *, seconds: float, slice_: int
    ) -> None:
        self._collection: Collection[RawBSONDocument] = client[database].get_collection(
            collection, codec_options=RAW
        )
        self._engine: Database[RawBSONDocument] = client.get_database(database, codec_options=RAW)
        self._limit, self._slice = int(seconds * 1000), max(slice_, LEAST)
        self._survey = MongoSurvey(self._collection, None, milliseconds=self._limit, slice_=slice_)
        self._asked: Query | None = None
        self._yielded = False  # whether an index yields the few documents of the last query

    # the sample

    def sample(self, choice: Choice, eligible: Query, size: int) -> tuple[bytes, ...]:
        if choice in ("oldest", "newest") and not self._few(eligible):
            return tuple(self._survey.ends(eligible, size, first=choice == "oldest", seconds=LOOKING))
        drawn = self._sampling_stages(eligible)
        if choice == "random":
            return self._random(drawn, eligible, size)
        order = {"oldest": ("_id", 1), "newest": ("_id", -1), "largest": ("size", -1)}[choice]
        sized = {"$project": {"size": {"$bsonSize": "$$ROOT"}}}
        rows = self._aggregate(
            [
                *drawn,
                {"$match": eligible},
                {"$limit": LOOKED_AT},
                sized,
                {"$sort": dict([order])},
                {"$limit": size},
            ]
        )
        return self._find({"_id": keys_under("$in", [Key.of_document(row) for row in rows])})

    def _random(self, drawn: Sequence[Mapping[str, Any]], eligible: Query, size: int) -> tuple[bytes, ...]:
        try:
            return self._aggregate([*drawn, {"$match": eligible}, {"$sample": {"size": size}}])
        except TooSlow:  # the filter takes long for each document: try it on fewer
            return self._aggregate(
                [{"$sample": {"size": size * DRAWN}}, {"$match": eligible}, {"$limit": size}]
            )

    def _sampling_stages(self, eligible: Query) -> list[dict[str, Any]]:
        """Returns the stages that draw documents to look at: none where an index yields the eligible ones, or the collection is small."""
        count = self._survey.size()
        if count <= self._slice or self._few(eligible):
            return []
        return [{"$sample": {"size": max(1, min(LOOKED_AT, self._slice, count // SPARSE))}}]

    def _few(self, eligible: Query) -> bool:
        if self._asked != eligible:
            self._asked, self._yielded = eligible, self._survey.few(eligible)
        return self._yielded

    def _find(self, query: Query, **options: Any) -> tuple[bytes, ...]:
        with translated():
            rows = self._collection.find(query, max_time_ms=self._limit, **options)
            return tuple(bytes(row.raw) for row in rows)

    def _aggregate(self, pipeline: Sequence[Mapping[str, Any]]) -> tuple[bytes, ...]:
        def rows(stages: list[Mapping[str, Any]]) -> tuple[bytes, ...]:
            found = self._collection.aggregate(stages, maxTimeMS=self._limit, allowDiskUse=False)
            return tuple(bytes(row.raw) for row in found)

        with translated():
            return with_smaller_samples(rows, pipeline)

    # documents that are not stored

    def _run_on_documents(
        self, documents: Sequence[bytes], stages: Sequence[Mapping[str, Any]], **options: Any
    ) -> list[bytes]:
        """Returns what stages make of documents."""
        source = document([element(DOCUMENT, b"$documents", bytes(literal_documents(documents).raw))])
        with translated():
            rows = self._engine.aggregate([source, *stages], maxTimeMS=ENGINE, **options)
            return [bytes(row.raw) for row in rows]

    def after(self, guarded: GuardedChange, write: Write) -> bytes | FailedDocument:
        if write.mark.path is None and isinstance(guarded.change, Unchanged | Skipped):
            return guarded.document
        pipeline = as_pipeline(update_statements.single(guarded, write)["u"])
        try:
            [changed] = self._run_on_documents(
                [guarded.document], pipeline, let=dict(write.variables), collation=self._collation
            )
        except Refused as error:
            return _failed_document(guarded.key, error)
        return _with_key(guarded.key, changed)

    def satisfying(self, query: Query, documents: Sequence[bytes]) -> frozenset[Key]:
        if not query:
            return frozenset(map(Key.of_document, documents))
        stages: list[Mapping[str, Any]] = [{"$match": query}, {"$project": {"_id": 1}}]
        parts = [
            self._run_on_documents(part, stages, collation=self._collation)
            for part in packed(documents, ROOM)
        ]
        return frozenset(Key.of_document(document) for part in parts for document in part)

    # what the collection is like

    def index(self, eligible: Query) -> str | None:
        command = {"find": self._collection.name, "filter": eligible}
        with translated():
            explained = self._engine.command(
                "explain", command, verbosity="queryPlanner", codec_options=DOCUMENT_OPTIONS
            )
        return next(_indexes(explained["queryPlanner"]["winningPlan"]), None)

    def validator(self) -> Validator | None:
        options = self._options
        if not options.get("validator") or options.get("validationLevel") == "off":
            return None
        return Validator(
            options["validator"], strict=options.get("validationLevel", "strict") == "strict",
            refuses=options.get("validationAction") != "warn",  # "error", and from 8.1 on "errorAndLog"
        )  # fmt: skip

    @property
    def _collation(self) -> Mapping[str, Any]:
        """The collection's collation, which documents that are sent with the command do not have by themselves."""
        collation: Mapping[str, Any] = self._options.get("collation", update_statements.SIMPLE)
        return collation

    @cached_property
    def _options(self) -> Mapping[str, Any]:
        with translated():
            collections = self._engine.list_collections(filter={"name": self._collection.name})
            return next((dict(collection.get("options", {})) for collection in collections), {})

    def unique_indexes(self) -> tuple[UniqueIndex, ...]:
        with translated():
            indexes = list(self._collection.list_indexes())
        return tuple(
            UniqueIndex(
                index["name"], tuple(index["key"]), bool(index.get("sparse")),
                _dict_or_none(index.get("partialFilterExpression")), _dict_or_none(index.get("collation")),
            )
            for index in indexes
            if index.get("unique")
        )  # fmt: skip

    def clashes(self, index: UniqueIndex, documents: Sequence[bytes]) -> tuple[Clash, ...] | None:
        indexed = documents
        if index.partial:
            in_partial_index = self.satisfying(index.partial, documents)
            indexed = [raw for raw in documents if Key.of_document(raw) in in_partial_index]
        keyed: list[tuple[Key, list[tuple[int, bytes] | None]]] = []
        for raw in indexed:
            values = [_value_at(raw, name.encode().split(b".")) for name in index.fields]
            if any(value is not None and value[0] == ARRAY for value in values):
                return None
            if not index.sparse or any(value is not None for value in values):
                keyed.append((Key.of_document(raw), values))
        return (*self._clashes_among(index, keyed), *self._clashes_with_stored(index, keyed, documents))

    def _clashes_among(self, index: UniqueIndex, keyed: Sequence[tuple[Key, Any]]) -> Iterator[Clash]:
        """Yields clashes among the documents themselves: MongoDB groups them by their keys in the index."""
        if len(keyed) < 2:  # noqa: PLR2004
            return
        rows = [
            bytes(document([_id_element(key), element(DOCUMENT, b"k", _values(values))]).raw)
            for key, values in keyed
        ]
        stages: list[Mapping[str, Any]] = [
            {"$group": {"_id": "$k", "keys": {"$push": "$_id"}}},
            {"$match": {"keys.1": {"$exists": True}}},
            {"$project": {"_id": {"$slice": ["$keys", 2]}}},
        ]
        for row in self._run_on_documents(
            rows, stages, collation=index.collation or update_statements.SIMPLE
        ):
            first, second = (
                Key(bytes(document([element(kind, b"_id", value)]).raw))
                for _, kind, value in iterate_fields(elements(row)[b"_id"][1])
            )
            yield Clash(index.name, first, second, stored=False)

    def _clashes_with_stored(
        self, index: UniqueIndex, keyed: Sequence[tuple[Key, Any]], sample: Sequence[bytes]
    ) -> Iterator[Clash]:
        """Yields clashes with documents outside the sample, as they are now."""
        not_in_sample = {"_id": keys_under("$nin", [Key.of_document(raw) for raw in sample])}
        for key, values in keyed:
            same_key = RawBSONDocument(_equality_query(index, values))
            query = {"$and": [same_key, not_in_sample, *([index.partial] if index.partial else [])]}
            with translated():
                other = self._collection.find_one(
                    query, {"_id": 1}, hint=index.name, max_time_ms=self._limit,
                    collation=index.collation or update_statements.SIMPLE,
                )  # fmt: skip
            if other is not None:
                yield Clash(index.name, key, Key(bytes(other.raw)), stored=True)


def _dict_or_none(value: Any) -> dict[str, Any] | None:
    return dict(value) if value else None


def _failed_document(key: Key, error: Refused) -> FailedDocument:
    own = parse_failure(str(error))
    if own:
        return failed_document(key, {"code": own[0], "errmsg": own[1]})
    cause = error.__cause__
    text = sentence(cause or error).removeprefix(PREFIX)
    return failed_document(key, {"code": getattr(cause, "code", None) or 0, "errmsg": text})


def _with_key(key: Key, changed: bytes) -> bytes | FailedDocument:
    """Does with `_id` what an update does: puts back a lost one, and refuses a changed one."""
    fields = [(name, kind, value) for name, kind, value in iterate_fields(changed) if name != b"_id"]
    new_id = elements(changed).get(b"_id")
    if new_id is not None and new_id != (key.kind, key.payload):
        return failed_document(
            key, {"code": IMMUTABLE, "errmsg": "The update changes _id, which MongoDB refuses."}
        )
    return bytes(
        document([_id_element(key), *(element(kind, name, value) for name, kind, value in fields)]).raw
    )


def _id_element(key: Key) -> bytes:
    return element(key.kind, b"_id", key.payload)


def _indexes(plan: Any) -> Iterator[str]:
    if isinstance(plan, Mapping):
        if "indexName" in plan:
            yield plan["indexName"]
        for inner in plan.values():
            yield from _indexes(inner)
    elif isinstance(plan, list):
        for inner in plan:
            yield from _indexes(inner)


def _value_at(raw: bytes, path: Sequence[bytes]) -> tuple[int, bytes] | None:
    """Returns the value at a path as a unique index sees it: a missing one is None, and an array on the way is returned."""
    value = elements(raw).get(path[0])
    if value is None or len(path) == 1 or value[0] == ARRAY:
        return value
    return _value_at(value[1], path[1:]) if value[0] == DOCUMENT else None


NULL = (0x0A, b"")  # what an index holds for a field that is missing


def _values(values: Sequence[tuple[int, bytes] | None]) -> bytes:
    fields = ((b"%d" % position, value or NULL) for position, value in enumerate(values))
    return bytes(document(element(kind, name, payload) for name, (kind, payload) in fields).raw)


def _equality_query(index: UniqueIndex, values: Sequence[tuple[int, bytes] | None]) -> bytes:
    """Returns `{field: {$eq: value}}` for each field of an index."""
    comparisons = []
    for name, value in zip(index.fields, values, strict=True):
        kind, payload = value or NULL
        inner = bytes(document([element(kind, b"$eq", payload)]).raw)
        comparisons.append(element(DOCUMENT, name.encode(), inner))
    return bytes(document(comparisons).raw)
