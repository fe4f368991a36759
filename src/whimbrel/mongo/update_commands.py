"""Sends statements in `update` commands that fit, so that one refused statement does not fail others."""

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

# Bytes of all statements of a command. The driver allows 16 MB and 16 kB, some of it for the rest of the command.
LARGEST = 16 * 1024 * 1024 + 14_000
STATEMENTS = 1000  # of one command, so that its time limit suffices

TOO_LARGE = 17419
CODE_NAMES = {
    2: "BadValue", 9: "FailedToParse", 14: "TypeMismatch", 15: "NestedTooDeep", 28: "PathNotViable", 40: "ConflictingUpdateOperators",
    52: "DollarPrefixedFieldName", 66: "ImmutableField", 121: "DocumentValidationFailure", 241: "ConversionFailure",
    10334: "BSONObjectTooLarge", 11000: "DuplicateKey", 17419: "BSONObjectTooLarge", 17420: "BSONObjectTooLarge",
}  # fmt: skip

Errors = list[dict[str, Any]]


class UpdateCommands:
    """Sends statements to one collection: unordered, majority-acknowledged and journaled."""

    def __init__(
        self,
        collection: Collection[Any],
        session: ClientSession,
        limit: int,
        unanswered: UnansweredStatements,
        *,
        uuid: bytes | None = None,
    ) -> None:
        """`uuid`: of the collection; the server refuses a statement where another one has that name."""
        self._uuid = uuid
        self._collection, self._session, self._limit = collection, session, limit
        self._unanswered = unanswered

    def send(
        self, sent: Sequence[Mapping[str, Any]], variables: Mapping[str, Any] | None = None
    ) -> tuple[int, Errors]:
        """Returns how many documents the server matched, and the errors with the index of their statement.

        A failed statement of many documents may have changed some of them (hole H1).
        Raises Transient, TooSlow, Systemic and CollectionReplaced.
        """
        applied, errors, index = 0, Errors(), 0
        room = LARGEST - len(bson.encode(variables or {}))
        for part in packed(
            [bson.encode(statement, codec_options=DOCUMENT_OPTIONS) for statement in sent], room
        ):
            count, refusals = self._checked_command(part, variables, room)
            applied += count
            errors += [{**refusal, "index": refusal["index"] + index} for refusal in refusals]
            index += len(part)
        return applied, errors

    def _checked_command(
        self, part: list[bytes], variables: Mapping[str, Any] | None, room: int
    ) -> tuple[int, Errors]:
        try:
            return self._command(part, variables, room)
        except CollectionReplaced:  # the server's error does not say what has happened
            check_identity(self._collection.database, self._collection.name, self._uuid, self._session)
            raise Transient("The collection was renamed, and renamed back.") from None

    def _command(
        self, part: list[bytes], variables: Mapping[str, Any] | None, room: int
    ) -> tuple[int, Errors]:
        if len(part[0]) > room:
            why = f"A document and its change take {len(part[0]):,} bytes together, and a command {room:,}. Declare reads=[...], so that less of the document is compared."
            return 0, [{"index": 0, "code": TOO_LARGE, "errmsg": why}]
        command: dict[str, Any] = {
            "update": self._collection.name, "updates": [RawBSONDocument(encoded) for encoded in part], "ordered": False,
            "writeConcern": {"w": "majority", "j": True}, "maxTimeMS": self._limit,
        }  # fmt: skip
        if self._uuid is not None:
            command["collectionUUID"] = Binary(self._uuid, UUID_SUBTYPE)
        try:
            with translated(), self._unanswered.noting():
                reply = self._collection.database.command(
                    command | ({"let": dict(variables)} if variables else {}), session=self._session
                )
        except Refused as error:  # one statement fails the command: it is nested too deep, for example
            if len(part) == 1:
                code = getattr(error.__cause__, "code", None) or 0
                return 0, [{"index": 0, "code": code, "errmsg": str(error)}]
            answers = [self._command([single], variables, room) for single in part]
            errors = [
                {**refusal, "index": index}
                for index, (_, refusals) in enumerate(answers)
                for refusal in refusals
            ]
            return sum(count for count, _ in answers), errors
        return int(reply["n"]), check_reply(reply)


def packed(documents: Sequence[bytes], room: int) -> Iterator[list[bytes]]:
    """Yields documents in their order, as many together as fit in a command."""
    batch: list[bytes] = []
    filled = 0
    for document in documents:
        if batch and (filled + len(document) > room or len(batch) == STATEMENTS):
            yield batch
            batch, filled = [], 0
        batch.append(document)
        filled += len(document)
    if batch:
        yield batch


def failed_document(key: Key, error: Mapping[str, Any]) -> FailedDocument:
    """Returns the failure of a document whose own statement was refused."""
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
