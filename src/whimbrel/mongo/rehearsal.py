"""A dry run's look at a collection, and MongoDB's own engine over documents that are sent along (`$documents`). Nothing is written."""

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
from whimbrel.mongo.survey import LEAST, SPARSE, MongoSurvey
from whimbrel.mongo.update_commands import packed, trouble
from whimbrel.ports import Choice, Clash, GuardedChange, Query, UniqueIndex, Validator, Write

ROOM = 8 * 1024 * 1024  # bytes of documents that travel in one command
IMMUTABLE = 66
LOOKED_AT = 1000  # documents from which a sample is chosen
DRAWN = 25  # documents that are drawn for one eligible one, where the filter is slow
LOOKING = 0.5  # seconds in which the first or last eligible documents are looked for
ENGINE = 10_000  # milliseconds for documents that are sent along: no collection is touched meanwhile
PREFIX = "PlanExecutor error during aggregation :: caused by :: "


class MongoRehearsal:
    """See `whimbrel.ports.Rehearsal`."""

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
        self._yielded = (
            False  # whether an index yields the few documents of the query that was asked for last
        )

    # the sample

    def sample(self, choice: Choice, eligible: Query, size: int) -> tuple[bytes, ...]:
        if choice in ("oldest", "newest") and not self._few(eligible):
            return tuple(self._survey.ends(eligible, size, first=choice == "oldest", seconds=LOOKING))
        drawn = self._drawn(eligible)
        if choice == "random":
            return self._random(drawn, eligible, size)
        order = {"oldest": ("_id", 1), "newest": ("_id", -1), "largest": ("size", -1)}[choice]
        sized = {"$project": {"size": {"$bsonSize": "$$ROOT"}}}
        rows = self._gathered(
            [
                *drawn,
                {"$match": eligible},
                {"$limit": LOOKED_AT},
                sized,
                {"$sort": dict([order])},
                {"$limit": size},
            ]
        )
        return self._found({"_id": keys_under("$in", [Key.of_document(each) for each in rows])})

    def _random(self, drawn: Sequence[Mapping[str, Any]], eligible: Query, size: int) -> tuple[bytes, ...]:
        try:
            return self._gathered([*drawn, {"$match": eligible}, {"$sample": {"size": size}}])
        except TooSlow:  # a filter that takes long for each document: of fewer of them
            return self._gathered(
                [{"$sample": {"size": size * DRAWN}}, {"$match": eligible}, {"$limit": size}]
            )

    def _drawn(self, eligible: Query) -> list[dict[str, Any]]:
        """The stages that draw the documents which are looked at: none where an index yields the eligible ones, or all are few."""
        count = self._survey.size()
        if count <= self._slice or self._few(eligible):
            return []
        return [{"$sample": {"size": max(1, min(LOOKED_AT, self._slice, count // SPARSE))}}]

    def _few(self, eligible: Query) -> bool:
        if self._asked != eligible:
            self._asked, self._yielded = eligible, self._survey.few(eligible)
        return self._yielded

    def _found(self, query: Query, **options: Any) -> tuple[bytes, ...]:
        with translated():
            found = self._collection.find(query, max_time_ms=self._limit, **options)
            return tuple(bytes(each.raw) for each in found)

    def _gathered(self, pipeline: Sequence[Mapping[str, Any]]) -> tuple[bytes, ...]:
        with translated():
            found = self._collection.aggregate(pipeline, maxTimeMS=self._limit, allowDiskUse=False)
            return tuple(bytes(each.raw) for each in found)

    # documents that are not stored

    def _through(
        self, documents: Sequence[bytes], stages: Sequence[Mapping[str, Any]], **options: Any
    ) -> list[bytes]:
        """What stages make of documents."""
        given = document([element(DOCUMENT, b"$documents", bytes(literal_documents(documents).raw))])
        with translated():
            found = self._engine.aggregate([given, *stages], maxTimeMS=ENGINE, **options)
            return [bytes(each.raw) for each in found]

    def after(self, guarded: GuardedChange, write: Write) -> bytes | FailedDocument:
        if write.mark.path is None and isinstance(guarded.change, Unchanged | Skipped):
            return guarded.document
        pipeline = as_pipeline(update_statements.single(guarded, write)["u"])
        try:
            [found] = self._through(
                [guarded.document], pipeline, let=dict(write.variables), collation=self._collation
            )
        except Refused as error:
            return _trouble(guarded.key, error)
        return _with_key(guarded.key, found)

    def satisfying(self, query: Query, documents: Sequence[bytes]) -> frozenset[Key]:
        if not query:
            return frozenset(map(Key.of_document, documents))
        stages: list[Mapping[str, Any]] = [{"$match": query}, {"$project": {"_id": 1}}]
        found = [self._through(part, stages, collation=self._collation) for part in packed(documents, ROOM)]
        return frozenset(Key.of_document(each) for part in found for each in part)

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
        """By which MongoDB compares what a user wrote, in this collection; documents that are sent along have none by themselves."""
        found: Mapping[str, Any] = self._options.get("collation", update_statements.SIMPLE)
        return found

    @cached_property
    def _options(self) -> Mapping[str, Any]:
        with translated():
            found = self._engine.list_collections(filter={"name": self._collection.name})
            return next((dict(each.get("options", {})) for each in found), {})

    def unique_indexes(self) -> tuple[UniqueIndex, ...]:
        with translated():
            found = list(self._collection.list_indexes())
        return tuple(
            UniqueIndex(
                each["name"], tuple(each["key"]), bool(each.get("sparse")),
                _plain(each.get("partialFilterExpression")), _plain(each.get("collation")),
            )
            for each in found
            if each.get("unique")
        )  # fmt: skip

    def clashes(self, index: UniqueIndex, documents: Sequence[bytes]) -> tuple[Clash, ...] | None:
        held = documents
        if index.partial:
            inside = self.satisfying(index.partial, documents)
            held = [each for each in documents if Key.of_document(each) in inside]
        keyed: list[tuple[Key, list[tuple[int, bytes] | None]]] = []
        for each in held:
            values = [_at(each, name.encode().split(b".")) for name in index.fields]
            if any(value is not None and value[0] == ARRAY for value in values):
                return None
            if not index.sparse or any(value is not None for value in values):
                keyed.append((Key.of_document(each), values))
        return (*self._among(index, keyed), *self._stored(index, keyed, documents))

    def _among(self, index: UniqueIndex, keyed: Sequence[tuple[Key, Any]]) -> Iterator[Clash]:
        """Clashes among the documents themselves: MongoDB groups them by their keys in the index."""
        if len(keyed) < 2:  # noqa: PLR2004
            return
        rows = [
            bytes(document([_keyed(key), element(DOCUMENT, b"k", _values(values))]).raw)
            for key, values in keyed
        ]
        stages: list[Mapping[str, Any]] = [
            {"$group": {"_id": "$k", "keys": {"$push": "$_id"}}},
            {"$match": {"keys.1": {"$exists": True}}},
            {"$project": {"_id": {"$slice": ["$keys", 2]}}},
        ]
        for each in self._through(rows, stages, collation=index.collation or update_statements.SIMPLE):
            first, second = (
                Key(bytes(document([element(kind, b"_id", value)]).raw))
                for _, kind, value in iterate_fields(elements(each)[b"_id"][1])
            )
            yield Clash(index.name, first, second, stored=False)

    def _stored(
        self, index: UniqueIndex, keyed: Sequence[tuple[Key, Any]], sample: Sequence[bytes]
    ) -> Iterator[Clash]:
        """Clashes with documents that are not in the sample, as they are now."""
        others = {"_id": keys_under("$nin", [Key.of_document(each) for each in sample])}
        for key, values in keyed:
            wanted = RawBSONDocument(_equal(index, values))
            query = {"$and": [wanted, others, *([index.partial] if index.partial else [])]}
            with translated():
                found = self._collection.find_one(
                    query, {"_id": 1}, hint=index.name, max_time_ms=self._limit,
                    collation=index.collation or update_statements.SIMPLE,
                )  # fmt: skip
            if found is not None:
                yield Clash(index.name, key, Key(bytes(found.raw)), stored=True)


def _plain(value: Any) -> dict[str, Any] | None:
    return dict(value) if value else None


def _trouble(key: Key, error: Refused) -> FailedDocument:
    own = parse_failure(str(error))
    if own:
        return trouble(key, {"code": own[0], "errmsg": own[1]})
    cause = error.__cause__
    text = sentence(cause or error).removeprefix(PREFIX)
    return trouble(key, {"code": getattr(cause, "code", None) or 0, "errmsg": text})


def _with_key(key: Key, found: bytes) -> bytes | FailedDocument:
    """A pipeline that loses `_id` keeps it in an update, and one that changes it is refused there."""
    fields = [(name, kind, value) for name, kind, value in iterate_fields(found) if name != b"_id"]
    own = elements(found).get(b"_id")
    if own is not None and own != (key.kind, key.payload):
        return trouble(key, {"code": IMMUTABLE, "errmsg": "The update changes _id, which MongoDB refuses."})
    return bytes(document([_keyed(key), *(element(kind, name, value) for name, kind, value in fields)]).raw)


def _keyed(key: Key) -> bytes:
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


def _at(raw: bytes, path: Sequence[bytes]) -> tuple[int, bytes] | None:
    """The value at a path, as a unique index sees it: nothing is None, and an array on the way is an array."""
    found = elements(raw).get(path[0])
    if found is None or len(path) == 1 or found[0] == ARRAY:
        return found
    return _at(found[1], path[1:]) if found[0] == DOCUMENT else None


NULL = (0x0A, b"")  # what an index holds for a field that is missing


def _values(values: Sequence[tuple[int, bytes] | None]) -> bytes:
    fields = ((b"%d" % at, value or NULL) for at, value in enumerate(values))
    return bytes(document(element(kind, name, payload) for name, (kind, payload) in fields).raw)


def _equal(index: UniqueIndex, values: Sequence[tuple[int, bytes] | None]) -> bytes:
    """`{field: {$eq: value}}` for each."""
    found = []
    for name, value in zip(index.fields, values, strict=True):
        kind, payload = value or NULL
        inner = bytes(document([element(kind, b"$eq", payload)]).raw)
        found.append(element(DOCUMENT, name.encode(), inner))
    return bytes(document(found).raw)
