"""Stores the sessions of people who have logged in to the dashboard."""

from collections.abc import Iterable
from typing import Any, Final

from pymongo.collection import Collection

from whimbrel.mongo.driver_errors import translated
from whimbrel.ports.sessions import LoggedIn

MOST: Final = 1000  # sessions of one token; the oldest end
PROLONGED: Final = 60.0  # seconds after which another use of a session is written down
# What has ended is removed by MongoDB within a minute or so, and must not be used until then.
_HOLDS: Final = {"$expr": {"$gt": ["$expiresAt", "$$NOW"]}}


class MongoSessions:
    """Implements `whimbrel.ports.LoginSessions`."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._rows = collection

    def begin(self, key: str, logged_in: LoggedIn, *, who: str, seconds: float) -> None:
        row = {
            "token": logged_in.token, "scope": logged_in.scope, "who": {"$literal": who}, "createdAt": "$$NOW", "expiresAt": _after(seconds),
        }  # fmt: skip
        with translated():
            self._rows.update_one({"_id": key}, [{"$set": row}], upsert=True)
            older = self._rows.find({"token": logged_in.token}, {"_id": 1}).sort("expiresAt", -1).skip(MOST)
            ended = [found["_id"] for found in older.limit(MOST)]
            if ended:
                self._rows.delete_many({"_id": {"$in": ended}})

    def use(self, key: str, *, seconds: float) -> LoggedIn | None:
        holding = {"_id": key, **_HOLDS}
        shown = {"token": 1, "scope": 1, "old": {"$lt": ["$expiresAt", _after(seconds - PROLONGED)]}}
        with translated():
            row = self._rows.find_one(holding, shown)
            if row is not None and row["old"]:
                self._rows.update_one(holding, [{"$set": {"expiresAt": _after(seconds)}}])
        return None if row is None else LoggedIn(row["token"], row["scope"])

    def holding(self, keys: Iterable[str]) -> set[str]:
        with translated():
            return {row["_id"] for row in self._rows.find({"_id": {"$in": list(keys)}, **_HOLDS}, {"_id": 1})}

    def end(self, key: str) -> None:
        with translated():
            self._rows.delete_one({"_id": key})


def _after(seconds: float) -> dict[str, Any]:
    return {"$add": ["$$NOW", int(seconds * 1000)]}
