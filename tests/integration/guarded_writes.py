"""The guarded write path by hand: one collection, its documents as raw bytes, and a migration to write for."""

import dataclasses
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database

from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import RAW, Key, iterate_fields
from whimbrel.domain.migrations.changes import Change
from whimbrel.domain.migrations.marks import mark_of
from whimbrel.domain.migrations.smallest_change import smallest_change
from whimbrel.mongo.documents import MongoDocuments
from whimbrel.ports import GuardedChange, Write, Written

TOKEN = "run.1"  # noqa: S105  a batch's mark
MARK = "_whimbrel.by-hand_v1"


class Hand:
    """What a slot does, step by step."""

    def __init__(
        self,
        database: Database[dict[str, Any]],
        name: str = "things",
        *,
        collated: bool = False,
        **options: Any,
    ) -> None:
        self.collection: Collection[dict[str, Any]] = database[name]
        self.raw: Collection[Any] = database.get_collection(name, codec_options=RAW)
        self.session = database.client.start_session(causal_consistency=False)
        self.documents = MongoDocuments(
            self.session, database.name, name, statement_seconds=30, collated=collated
        )
        self.migration = Migration(name="by-hand", collection=name, transform=_same, **options).definition

    def insert(self, *documents: bytes) -> list[bytes]:
        """Documents as they are stored afterwards."""
        for each in documents:
            self.raw.insert_one(RawBSONDocument(each))
        return [self.stored(Key.of_document(each)) for each in documents]

    def stored(self, key: Key) -> bytes:
        found = self.raw.find_one({"_id": {"$in": [RawBSONDocument(key.raw)["_id"]]}})
        assert found is not None
        return bytes(found.raw)

    def replace(self, document: bytes) -> None:
        """What the application does meanwhile."""
        key = RawBSONDocument(Key.of_document(document).raw)
        self.raw.delete_one({"_id": key["_id"]})
        self.raw.insert_one(RawBSONDocument(document))

    def terms(self, **changed: Any) -> Write:
        mark = mark_of(self.migration.mark, "by-hand_v1", self.migration.status_field)
        usual = Write(
            eligible=mark.unmarked("pending"),
            until=datetime.now(UTC) + timedelta(seconds=60),
            mark=mark,
            token=TOKEN,
            reads=self.migration.reads,
        )
        return dataclasses.replace(usual, **changed)

    def write(self, changes: Iterable[tuple[bytes, Change]], **terms: Any) -> Written:
        guarded = [GuardedChange(Key.of_document(document), document, change) for document, change in changes]
        return self.documents.write(guarded, self.terms(**terms))

    def returned(self, documents: Iterable[bytes], returned: Any, **terms: Any) -> Written:
        """Write what a function returned, the same for each document."""
        return self.write(
            [(document, smallest_change(self.migration, document, returned)) for document in documents],
            **terms,
        )

    def marks(self) -> dict[Any, Any]:
        return {
            each["_id"]: each.get("_whimbrel", {}).get("by-hand_v1")
            for each in self.collection.find({}, {"_whimbrel": 1})
        }


def _same(document: dict[str, Any]) -> dict[str, Any]:
    return document


def stored(collection: Collection[Any]) -> dict[Any, bytes]:
    """All documents as they are stored, by `_id`."""
    found = collection.with_options(codec_options=RAW).find()
    return {each["_id"]: bytes(each.raw) for each in found}


def unmarked(document: bytes) -> list[tuple[bytes, int, bytes]]:
    """The fields of a document without the mark, in their order."""
    return [each for each in iterate_fields(document) if each[0] != b"_whimbrel"]


def new_name() -> str:
    return f"test_{secrets.token_hex(4)}"


Client = MongoClient[dict[str, Any]]
