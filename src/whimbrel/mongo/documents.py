"""Writes to the user's collection: declarative updates and guarded writes; its reads are in `whimbrel.mongo.document_reads`.

A user's filters and updates use the collection's own collation, as the user's shell does; Whimbrel's own comparisons
(documents with what was read, tokens) are byte by byte, with the simple collation (hole H31).

All statements use the session of one slot, whose id is in the batch's row: the slot that takes the batch over can end
what this one still has running (hole H13).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.client_session import ClientSession

from whimbrel.domain.bson.raw_bson import Key, keys_under
from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.changes import Single, Unchanged
from whimbrel.domain.migrations.updates import Update
from whimbrel.domain.runs.batches import Range
from whimbrel.errors import Refused
from whimbrel.mongo import update_statements
from whimbrel.mongo.document_reads import DocumentReads
from whimbrel.mongo.ranges import BY_ID, Hint, within
from whimbrel.mongo.unanswered_statements import UnansweredStatements
from whimbrel.mongo.update_commands import Errors, UpdateCommands, failed_document
from whimbrel.mongo.write_groups import grouped_writes
from whimbrel.ports import GuardedChange, Query, Write, Written


class MongoDocuments(DocumentReads):
    """Implements `whimbrel.ports.Documents`."""

    def __init__(
        self,
        session: ClientSession,
        database: str,
        collection: str,
        *,
        statement_seconds: float,
        fence_seconds: float = 20.0,
        uuid: bytes | None = None,
        collated: bool = False,
    ) -> None:
        """`fence_seconds`: after which no statement that was sent can change anything: a lease and its grace.

        `uuid`: of the collection; no statement changes another one of that name. `collated`: whether the collection has a collation of its own.
        """
        super().__init__(session, database, collection, statement_seconds=statement_seconds, uuid=uuid)
        self._collated = collated
        self._unanswered = UnansweredStatements(session, fence_seconds)
        self._sender = UpdateCommands(self._collection, session, self._limit, self._unanswered, uuid=uuid)

    def quiet(self) -> bool:
        return self._unanswered.end_all()

    # declarative writing

    def update_range(self, where: Range, update: Update, write: Write) -> int:
        query = within(write.eligible, where, update_statements.fence(write.until))
        change = update_statements.marked(update, write)

        def send(index: Hint, _: Query) -> int:
            applied, errors = self._send(
                [update_statements.plain(query, change, multi=True, hint=index)], write
            )
            if errors:
                raise Refused(errors[0].get("errmsg", ""))
            return applied

        return self._by_index(write.eligible, send)

    def update_keys(self, keys: Sequence[Key], update: Update, write: Write, *, group: int) -> Written:
        parts = [keys[start : start + group] for start in range(0, len(keys), group)]
        change = update_statements.marked(update, write)
        statements = [update_statements.of_keys(part, change, write, multi=group > 1) for part in parts]
        applied, errors = self._send(statements, write)
        if group == 1:
            return Written(
                applied,
                refused=tuple(failed_document(keys[refusal["index"]], refusal) for refusal in errors),
            )
        unclear = [key for refusal in errors for key in parts[refusal["index"]]]
        return Written(
            applied, tuple(GuardedChange(key, b"", Unchanged()) for key in unclear), clean=not errors
        )

    def _send(self, sent: Sequence[Mapping[str, Any]], write: Write) -> tuple[int, Errors]:
        return self._sender.send(sent, write.variables)

    # guarded writing

    def write(self, documents: Sequence[GuardedChange], write: Write) -> Written:
        groups, single_changes = grouped_writes(documents, named=write.undo is not None)
        columns, singles = self._write_columns(groups, write), self._write_singly(single_changes, write)
        return Written(
            columns.applied + singles.applied,
            (*columns.doubtful, *singles.doubtful),
            (*columns.refused, *singles.refused),
            clean=columns.clean,
        )

    def _write_columns(self, groups: Sequence[Sequence[GuardedChange]], write: Write) -> Written:
        applied, errors = self._send(
            [update_statements.columnar(group, write, collated=self._collated) for group in groups], write
        )
        refused = {refusal["index"] for refusal in errors}
        sent_changes = [
            change for index, group in enumerate(groups) if index not in refused for change in group
        ]
        if not refused:
            return Written(applied, tuple(sent_changes) if applied < len(sent_changes) else ())
        # A statement that broke off does not report what it changed: each of its documents is sent again, alone.
        single = self._write_singly([change for index in sorted(refused) for change in groups[index]], write)
        return Written(
            applied + single.applied, (*sent_changes, *single.doubtful), single.refused, clean=False
        )

    def _write_singly(self, documents: Sequence[GuardedChange], write: Write) -> Written:
        statements = [
            update_statements.single(change, write, collated=self._collated) for change in documents
        ]
        applied, errors = self._send(statements, write)
        refused = {refusal["index"] for refusal in errors}
        sent_changes = tuple(change for position, change in enumerate(documents) if position not in refused)
        failures = tuple(failed_document(documents[refusal["index"]].key, refusal) for refusal in errors)
        return Written(applied, sent_changes if applied < len(sent_changes) else (), failures)

    def mark_failed(self, keys: Sequence[Key], fields: dict[str, Any], write: Write) -> None:
        update = update_statements.traced(fields, write)
        self._send([update_statements.of_keys([key], update, write, multi=False) for key in keys], write)

    def claim(
        self, documents: Sequence[GuardedChange], fields: dict[str, Any], write: Write
    ) -> Sequence[FailedDocument]:
        current_dates = {name: True for name, value in fields.items() if value == "$$NOW"}
        update = {"$set": {name: value for name, value in fields.items() if name not in current_dates}}
        change = Single(update | ({"$currentDate": current_dates} if current_dates else {}), whole=True)
        claimed = [GuardedChange(guarded.key, guarded.document, change) for guarded in documents]
        statements = [
            update_statements.single(guarded, write, mark=False, collated=self._collated)
            for guarded in claimed
        ]
        _, errors = self._send(statements, write)
        return [failed_document(documents[refusal["index"]].key, refusal) for refusal in errors]

    def reset(
        self, bearers: Mapping[str | None, Sequence[Key]], eligible: Query, path: str, update: Update
    ) -> int:
        def statement(token: str | None, keys: Sequence[Key]) -> update_statements.Statement:
            same = {"$not": {"$type": "string"}} if token is None else token
            query = {"$and": [{"_id": keys_under("$in", keys)}, {path: same}, eligible]}
            return update_statements.plain(query, update, multi=True, hint=BY_ID)

        tokens_and_keys = list(bearers.items())
        applied, errors = self._sender.send([statement(token, keys) for token, keys in tokens_and_keys])
        refused = [tokens_and_keys[refusal["index"]] for refusal in errors]
        single_statements = [statement(token, [key]) for token, keys in refused for key in keys]
        return applied + self._sender.send(single_statements)[0]
