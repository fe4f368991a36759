"""The user's collection: range planning, reads as raw bytes, guarded writes, evidence.

It works through the session of one slot, whose id stands in the batch's row: whoever takes the batch
over can end what this slot still has running (hole H13).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

from whimbrel.domain.batches import Range
from whimbrel.domain.changes import Row, Single, Unchanged
from whimbrel.domain.failures import Kind, Trouble
from whimbrel.domain.marks import CHANGED, SKIPPED, UNCHANGED, stamp
from whimbrel.domain.migration import Update
from whimbrel.domain.raw import DOCUMENT_OPTIONS, Key, keys_under, split
from whimbrel.domain.runs import Counts
from whimbrel.errors import Refused, TooSlow
from whimbrel.mongo import statements
from whimbrel.mongo.errors import check_reply, translated
from whimbrel.mongo.ranges import ID_INDEX, Hops, bounds, serving_index
from whimbrel.ports import Cuts, Guarded, Page, Query, Write, Written

COLUMN = 100  # documents in one columnar statement
FAT = 4 * 1024 * 1024  # bytes above which a document is written alone
COMMAND = 16 * 1024 * 1024  # bytes of statements in one command; MongoDB takes 48 MB
LARGEST = 16 * 1024 * 1024  # bytes of a document in MongoDB

CODE_NAMES = {
    2: "BadValue", 14: "TypeMismatch", 28: "PathNotViable", 40: "ConflictingUpdateOperators", 57: "DollarPrefixedFieldName",
    66: "ImmutableField", 121: "DocumentValidationFailure", 241: "ConversionFailure", 10334: "BSONObjectTooLarge",
    11000: "DuplicateKey", 17419: "BSONObjectTooLarge", 17420: "BSONObjectTooLarge",
}  # fmt: skip


def _bytes(reply: Any) -> bytes:
    """A raw reply: the driver's types say that it is documents."""
    return bytes(reply)


def combined(query: Query, *conditions: Mapping[str, Any]) -> Query:
    """A query and conditions of an `$expr`, so that bounds inside it still serve the index."""
    parts: list[Any] = [query] if query else []
    if conditions:
        parts.append({"$expr": {"$and": list(conditions)}})
    return parts[0] if len(parts) == 1 else {"$and": parts} if parts else {}


class MongoDocuments:
    """See `whimbrel.ports.Documents`."""

    def __init__(
        self, session: ClientSession, database: str, collection: str, *, statement_seconds: float
    ) -> None:
        self._session = session
        self._collection: Collection[dict[str, Any]] = session.client[database].get_collection(
            collection, codec_options=DOCUMENT_OPTIONS, read_preference=ReadPreference.PRIMARY
        )
        self._majority = self._collection.with_options(read_concern=ReadConcern("majority"))
        self._limit = int(statement_seconds * 1000)
        self._known_indexes: Mapping[str, Any] | None = None

    # planning and reading

    def estimate(self) -> int:
        with translated():
            return self._collection.estimated_document_count()

    def cuts(self, after: Key | None, eligible: Query, size: int, most: int, *, exact: bool = False) -> Cuts:
        index, served = self._serving(eligible)
        return Hops(self._collection, self._session, index, eligible if exact else served).cuts(
            after, size, most
        )

    def _serving(self, eligible: Query) -> tuple[str, Query]:
        if self._known_indexes is None:
            with translated():
                self._known_indexes = self._collection.index_information(session=self._session)
        return serving_index(self._known_indexes, eligible)

    def read(self, where: Range, eligible: Query, limit: int) -> Page:
        with translated():
            found = self._collection.find_raw_batches(
                combined(eligible, *bounds(where)),
                sort=[("_id", 1)], hint=self._serving(eligible)[0], limit=limit, batch_size=limit,
                max_time_ms=self._limit, session=self._session,
            )  # fmt: skip
            try:
                documents = split(_bytes(next(found, b"")))
                return Page(tuple(documents), end=found.cursor_id == 0 and len(documents) < limit)
            finally:
                found.close()

    def read_keys(self, keys: Sequence[Key], eligible: Query) -> tuple[bytes, ...]:
        with translated():
            found = self._collection.find_raw_batches(
                {"$and": [{"_id": keys_under("$in", keys)}, eligible]},
                sort=[("_id", 1)], hint=ID_INDEX, collation=statements.SIMPLE, max_time_ms=self._limit, session=self._session,
            )  # fmt: skip
            return tuple(document for batch in found for document in split(_bytes(batch)))

    def keys(self, where: Range, eligible: Query, limit: int) -> tuple[Key, ...]:
        with translated():
            found = self._collection.find_raw_batches(
                combined(eligible, *bounds(where)), {"_id": 1},
                sort=[("_id", 1)], hint=self._serving(eligible)[0], limit=limit, max_time_ms=self._limit, session=self._session,
            )  # fmt: skip
            return tuple(Key(document) for batch in found for document in split(_bytes(batch)))

    def nth(self, where: Range, n: int) -> Key | None:
        with translated():
            found = self._collection.find_raw_batches(
                combined({}, *bounds(where)), {"_id": 1},
                sort=[("_id", 1)], hint=ID_INDEX, skip=n - 1, limit=1, max_time_ms=self._limit, session=self._session,
            )  # fmt: skip
            return next((Key(document) for batch in found for document in split(_bytes(batch))), None)

    # declarative writing

    def update_range(self, where: Range, update: Update, write: Write) -> int:
        query = combined(write.eligible, *bounds(where), statements.fence(write.until))
        statement = statements.plain(
            query, statements.marked(update, write), multi=True, hint=self._serving(write.eligible)[0]
        )
        reply, errors = self._command([statement], write)
        if errors:
            raise Refused(errors[0].get("errmsg", ""))
        return int(reply["n"])

    def update_keys(self, keys: Sequence[Key], update: Update, write: Write, *, group: int) -> Written:
        parts = [keys[at : at + group] for at in range(0, len(keys), group)]
        change = statements.marked(update, write)
        sent = [
            statements.plain(
                combined({"$and": [{"_id": keys_under("$in", part)}, write.eligible]}, statements.fence(write.until)),
                change, multi=group > 1, hint=ID_INDEX,
            )
            for part in parts
        ]  # fmt: skip
        reply, errors = self._command(sent, write)
        if group == 1:
            return Written(
                int(reply["n"]), troubles=tuple(_trouble(keys[each["index"]], each) for each in errors)
            )
        doubtful = [key for each in errors for key in parts[each["index"]]]
        return Written(
            int(reply["n"]), tuple(Guarded(key, b"", Unchanged()) for key in doubtful), clean=not errors
        )

    def _command(
        self, sent: Sequence[Mapping[str, Any]], write: Write, **variables: Any
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        variables = {**write.variables, **variables}
        with translated():
            command: dict[str, Any] = {
                "update": self._collection.name, "updates": list(sent), "ordered": False,
                "writeConcern": {"w": "majority", "j": True}, "maxTimeMS": self._limit,
            }  # fmt: skip
            reply = self._collection.database.command(
                command | ({"let": variables} if variables else {}), session=self._session
            )
        return reply, check_reply(reply)

    # guarded writing

    def write(self, documents: Sequence[Guarded], write: Write) -> Written:
        columns, alone, fat, troubles = _sorted_out(documents)
        found = [self._write_columns(packed, write) for packed in _packed(columns)]
        found += [self._write_singly(packed, write) for packed in _packed([[each] for each in alone])]
        found += [self._write_fat(each, write) for each in fat]
        return Written(
            sum(each.applied for each in found),
            tuple(doubt for each in found for doubt in each.doubtful),
            (*troubles, *(trouble for each in found for trouble in each.troubles)),
            clean=all(each.clean for each in found),
        )

    def _write_columns(self, groups: list[list[Guarded]], write: Write) -> Written:
        reply, errors = self._command([statements.columnar(group, write) for group in groups], write)
        refused = {each["index"] for each in errors}
        sent = [each for index, group in enumerate(groups) if index not in refused for each in group]
        applied = int(reply["n"])
        if not refused:
            return Written(applied, tuple(sent) if applied < len(sent) else ())
        # A statement that broke off reports nothing of what it did: each of its documents once more, alone.
        single = self._write_singly([[each] for index in sorted(refused) for each in groups[index]], write)
        return Written(applied + single.applied, (*sent, *single.doubtful), single.troubles, clean=False)

    def _write_singly(self, groups: list[list[Guarded]], write: Write) -> Written:
        documents = [group[0] for group in groups]
        reply, errors = self._command([statements.single(each, write) for each in documents], write)
        return _singles(documents, int(reply["n"]), errors)

    def _write_fat(self, document: Guarded, write: Write) -> Written:
        """A document that has no room for its own guard in one statement: the guard travels beside it, as a variable."""
        before = {"$literal": RawBSONDocument(document.document)}
        try:
            reply, errors = self._command(
                [statements.single(document, write, before="$$before")], write, before=before
            )
        except bson.errors.InvalidDocument as error:
            return Written(0, troubles=(_too_large(document.key, str(error)),))
        return _singles([document], int(reply["n"]), errors)

    def mark_failed(self, keys: Sequence[Key], fields: dict[str, Any], write: Write) -> None:
        sent = [
            statements.plain(
                combined({"$and": [{"_id": keys_under("$in", [key])}, write.eligible]}, statements.fence(write.until)),
                {"$set": fields}, multi=False, hint=ID_INDEX,
            )
            for key in keys
        ]  # fmt: skip
        self._command(sent, write)

    def claim(self, documents: Sequence[Guarded], fields: dict[str, Any], write: Write) -> None:
        guarded = [Guarded(each.key, each.document, Single([{"$set": fields}])) for each in documents]
        self._command([statements.single(each, write, mark=False) for each in guarded], write)

    # evidence

    def evidence(self, where: Range | Sequence[Key], path: str, token: str) -> Counts:
        values = {stamp(token, outcome): outcome for outcome in (CHANGED, UNCHANGED, SKIPPED)}
        query: Query = {path: {"$in": list(values)}}
        if isinstance(where, Range):
            query = combined(query, *bounds(where))
        else:
            query = {"$and": [{"_id": keys_under("$in", where)}, query]}
        pipeline: list[Mapping[str, Any]] = [
            {"$match": query},
            {"$group": {"_id": f"${path}", "n": {"$sum": 1}}},
        ]
        with translated():
            found = self._majority.aggregate(
                pipeline, hint=ID_INDEX, collation=statements.SIMPLE, session=self._session
            )
            counted = {values[row["_id"]]: int(row["n"]) for row in found}
        return Counts(**counted)

    def tokens(self, keys: Sequence[Key], path: str) -> dict[Key, Any]:
        with translated():
            found = self._majority.with_options(
                codec_options=self._collection.codec_options.with_options(document_class=RawBSONDocument)
            ).find(
                {"_id": keys_under("$in", keys), path: {"$exists": True}}, {path: 1},
                hint=ID_INDEX, collation=statements.SIMPLE, session=self._session,
            )  # fmt: skip
            return {Key.of_document(each.raw): _at(each, path) for each in found}

    def token_values(self, where: Range, eligible: Query, path: str) -> list[str]:
        pipeline: list[Mapping[str, Any]] = [
            {"$match": combined(eligible, *bounds(where))},
            {"$group": {"_id": f"${path}"}},
            {"$limit": 10_000},
        ]
        with translated():
            found = self._majority.aggregate(pipeline, hint=ID_INDEX, session=self._session)
            return [row["_id"] for row in found if isinstance(row["_id"], str)]

    def count(self, where: Range | Sequence[Key], eligible: Query) -> int:
        query = (
            combined(eligible, *bounds(where))
            if isinstance(where, Range)
            else {"$and": [{"_id": keys_under("$in", where)}, eligible]}
        )
        with translated():
            return self._majority.count_documents(
                query, hint=ID_INDEX, collation=statements.SIMPLE, session=self._session
            )

    def count_within(self, seconds: float, eligible: Query) -> int | None:
        try:
            with translated():
                return self._majority.count_documents(
                    eligible, session=self._session, maxTimeMS=int(seconds * 1000)
                )
        except TooSlow:
            return None


def _at(document: Mapping[str, Any], path: str) -> Any:
    here: Any = document
    for part in path.split("."):
        here = here[part]
    return here


def _weight(each: Guarded) -> int:
    """About the bytes that a document takes in a statement."""
    return (
        len(each.document)
        + (len(each.change.values) if isinstance(each.change, Row) else len(each.document))
        + 200
    )


def _sorted_out(
    documents: Iterable[Guarded],
) -> tuple[list[list[Guarded]], list[Guarded], list[Guarded], list[Trouble]]:
    """Groups of one shape for columnar statements; documents that go alone; fat ones; those that cannot be written."""
    groups: list[list[Guarded]] = []
    filling: dict[tuple[Any, ...], tuple[list[Guarded], int]] = {}
    alone: list[Guarded] = []
    fat: list[Guarded] = []
    troubles: list[Trouble] = []
    for each in documents:
        weight = _weight(each)
        if isinstance(each.change, Row) and len(each.change.values) > LARGEST:
            troubles.append(_too_large(each.key, f"the change alone is {len(each.change.values):,} bytes"))
        elif weight > FAT:
            fat.append(each)
        elif isinstance(each.change, Single):
            alone.append(each)
        else:
            kind = statements.shape(each)
            group, filled = filling.get(kind, ([], FAT))
            if len(group) == COLUMN or filled + weight > FAT:
                group, filled = [], 0
                groups.append(group)
            group.append(each)
            filling[kind] = group, filled + weight
    return groups, alone, fat, troubles


def _packed(groups: Iterable[list[Guarded]]) -> Iterator[list[list[Guarded]]]:
    """Groups, one statement each, in commands of a bounded size."""
    packed: list[list[Guarded]] = []
    filled = 0
    for group in groups:
        weight = sum(_weight(each) for each in group)
        if packed and filled + weight > COMMAND:
            yield packed
            packed, filled = [], 0
        packed.append(group)
        filled += weight
    if packed:
        yield packed


def _singles(documents: Sequence[Guarded], applied: int, errors: Sequence[Mapping[str, Any]]) -> Written:
    refused = {int(each["index"]) for each in errors}
    sent = tuple(each for index, each in enumerate(documents) if index not in refused)
    troubles = tuple(_trouble(documents[each["index"]].key, each) for each in errors)
    return Written(applied, sent if applied < len(sent) else (), troubles)


def _trouble(key: Key, error: Mapping[str, Any]) -> Trouble:
    code = int(error.get("code", 0))
    details = error.get("errInfo", {}).get("details")
    message = str(error.get("errmsg", "")) + (f": {details}" if details else "")
    return Trouble(
        key=key, kind=Kind.DATA, type=CODE_NAMES.get(code, f"Code{code}"), message=message[:2000], code=code
    )


def _too_large(key: Key, why: str) -> Trouble:
    return Trouble(
        key=key, kind=Kind.DATA, type="BSONObjectTooLarge", code=17419,
        message=f"The document would be larger than 16 MB: {why}",
    )  # fmt: skip
