"""Sending statements of an `update` command: in commands that fit, and with one refused statement costing no other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import bson
from bson.binary import Binary
from bson.raw_bson import RawBSONDocument
from pymongo.client_session import ClientSession
from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS, Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.errors import CollectionReplaced, Refused, Transient
from whimbrel.mongo.collection_identity import UUID_SUBTYPE, check_identity
from whimbrel.mongo.driver_errors import check_reply, translated
from whimbrel.mongo.unanswered_statements import UnansweredStatements

# Bytes of all statements of a command. The driver takes 16 MB and 16 kB, of which what stands around them needs some.
LARGEST = 16 * 1024 * 1024 + 14_000
STATEMENTS = 1000  # in one command, so that its time limit suffices

TOO_LARGE = 17419
CODE_NAMES = {
    2: "BadValue", 9: "FailedToParse", 14: "TypeMismatch", 15: "NestedTooDeep", 28: "PathNotViable", 40: "ConflictingUpdateOperators",
    52: "DollarPrefixedFieldName", 66: "ImmutableField", 121: "DocumentValidationFailure", 241: "ConversionFailure",
    10334: "BSONObjectTooLarge", 11000: "DuplicateKey", 17419: "BSONObjectTooLarge", 17420: "BSONObjectTooLarge",
}  # fmt: skip

Errors = list[dict[str, Any]]


class UpdateCommands:
    """Sends statements on one collection, all of them unordered, majority-acknowledged and journaled."""

    def __init__(
        self,
        collection: Collection[Any],
        session: ClientSession,
        limit: int,
        unanswered: UnansweredStatements,
        *,
        uuid: bytes | None = None,
    ) -> None:
        """`uuid`: of the collection; the server refuses a statement that would meet another one of that name."""
        self._uuid = uuid
        self._collection, self._session, self._limit = collection, session, limit
        self._unanswered = unanswered

    def send(
        self, sent: Sequence[Mapping[str, Any]], variables: Mapping[str, Any] | None = None
    ) -> tuple[int, Errors]:
        """How many documents the server says it matched, and the errors by the index of their statement.

        A statement of many documents that is in error may have changed some of them (hole H1).
        Raises Transient, TooSlow, Systemic and CollectionReplaced.
        """
        applied, errors, at = 0, Errors(), 0
        room = LARGEST - len(bson.encode(variables or {}))
        for part in packed([bson.encode(each, codec_options=DOCUMENT_OPTIONS) for each in sent], room):
            count, found = self._bound(part, variables, room)
            applied += count
            errors += [{**each, "index": each["index"] + at} for each in found]
            at += len(part)
        return applied, errors

    def _bound(self, part: list[bytes], variables: Mapping[str, Any] | None, room: int) -> tuple[int, Errors]:
        try:
            return self._command(part, variables, room)
        except CollectionReplaced:  # the server's words do not say what has happened
            check_identity(self._collection.database, self._collection.name, self._uuid, self._session)
            raise Transient("The collection was renamed, and renamed back.") from None

    def _command(
        self, part: list[bytes], variables: Mapping[str, Any] | None, room: int
    ) -> tuple[int, Errors]:
        if len(part[0]) > room:
            why = f"A document and its change take {len(part[0]):,} bytes together, and a command {room:,}. Declare reads=[...], so that less of the document is compared."
            return 0, [{"index": 0, "code": TOO_LARGE, "errmsg": why}]
        command: dict[str, Any] = {
            "update": self._collection.name, "updates": [RawBSONDocument(each) for each in part], "ordered": False,
            "writeConcern": {"w": "majority", "j": True}, "maxTimeMS": self._limit,
        }  # fmt: skip
        if self._uuid is not None:
            command["collectionUUID"] = Binary(self._uuid, UUID_SUBTYPE)
        try:
            with translated(), self._unanswered.noted():
                reply = self._collection.database.command(
                    command | ({"let": dict(variables)} if variables else {}), session=self._session
                )
        except (
            Refused
        ) as error:  # the whole command, for the sake of one statement: nested too deep, for example
            if len(part) == 1:
                code = getattr(error.__cause__, "code", None) or 0
                return 0, [{"index": 0, "code": code, "errmsg": str(error)}]
            found = [self._command([each], variables, room) for each in part]
            errors = [{**each, "index": at} for at, (_, each_) in enumerate(found) for each in each_]
            return sum(count for count, _ in found), errors
        return int(reply["n"]), check_reply(reply)


def packed(sent: Sequence[bytes], room: int) -> Iterator[list[bytes]]:
    """Documents in their order, as many together as have room in a command."""
    together: list[bytes] = []
    filled = 0
    for each in sent:
        if together and (filled + len(each) > room or len(together) == STATEMENTS):
            yield together
            together, filled = [], 0
        together.append(each)
        filled += len(each)
    if together:
        yield together


def trouble(key: Key, error: Mapping[str, Any]) -> FailedDocument:
    """What the refusal of a document's own statement says of the document."""
    code = int(error.get("code", 0))
    details = error.get("errInfo", {}).get("details")
    message = str(error.get("errmsg", "")) + (f": {details}" if details else "")
    return FailedDocument(
        key=key,
        kind=FailureKind.DATA,
        type=CODE_NAMES.get(code, f"Code{code}"),
        message=message[:2000],
        code=code,
    )
