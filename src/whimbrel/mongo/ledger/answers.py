"""Stores answers to requests with an idempotency key."""

from typing import Any

from bson.binary import Binary
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from whimbrel.mongo.driver_errors import translated
from whimbrel.ports.answers import GivenAnswer

DAY = 24 * 60 * 60


class MongoAnswers:
    """Implements `whimbrel.ports.answers`."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._answers = collection

    def begin(self, key: str, fingerprint: str) -> GivenAnswer | None:
        new_row = [
            {"$set": {"at": "$$NOW", "fingerprint": {"$literal": fingerprint}, "status": None, "body": b""}}
        ]
        with translated():
            try:
                # The condition matches no existing row, so the upsert inserts one, or fails on another process's.
                self._answers.update_one(
                    {"_id": key, "fingerprint": {"$exists": False}}, new_row, upsert=True
                )
            except DuplicateKeyError:
                row = self._answers.find_one({"_id": key})
                if row is None:  # the other request was refused, and has forgotten it
                    return self.begin(key, fingerprint)
                return GivenAnswer(row["fingerprint"], row["status"], bytes(row["body"]))
        return None

    def finish(self, key: str, status: int, body: bytes) -> None:
        with translated():
            self._answers.update_one({"_id": key}, {"$set": {"status": status, "body": Binary(body)}})

    def forget(self, key: str) -> None:
        with translated():
            self._answers.delete_one({"_id": key, "status": None})
