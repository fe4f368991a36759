"""Roles that one process has at a time, workers that are alive, and who did what."""

import re
from collections.abc import Sequence
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from whimbrel.domain.workers import Worker
from whimbrel.mongo.codec import worker_of
from whimbrel.mongo.errors import translated


class MongoLeases:
    """See `whimbrel.ports.Leases`."""

    def __init__(self, leases: Collection[Any], workers: Collection[Any], audit: Collection[Any]) -> None:
        self._leases, self._workers, self._audit = leases, workers, audit

    def lead(self, role: str, holder: str, seconds: float) -> bool:
        mine_or_over = {"$or": [{"holder": holder}, {"$expr": {"$lt": ["$until", "$$NOW"]}}]}
        hold = [{"$set": {"holder": {"$literal": holder}, "until": {"$add": ["$$NOW", int(seconds * 1000)]}}}]
        with translated():
            if self._leases.update_one({"_id": role, **mine_or_over}, hold).matched_count:
                return True
            try:  # an upsert does not take $expr: this one only makes a role that is not there yet
                self._leases.update_one({"_id": role, "holder": holder}, hold, upsert=True)
            except DuplicateKeyError:
                return False
        return True

    def step_down(self, holder: str) -> None:
        with translated():
            self._leases.delete_many({"holder": holder})

    def beat(self, worker: str, **facts: Any) -> None:
        stated = {name: {"$literal": value} for name, value in facts.items()}
        times = {"seenAt": "$$NOW", "startedAt": {"$ifNull": ["$startedAt", "$$NOW"]}}
        with translated():
            self._workers.update_one({"_id": worker}, [{"$set": stated | times}], upsert=True)

    def workers(self, seconds: float) -> Sequence[Worker]:
        with translated():
            found = list(self._workers.find(_seen_within(seconds), sort=[("_id", 1)]))
        return [worker_of(row) for row in found]

    def leave(self, worker: str) -> None:
        with translated():
            self._workers.delete_one({"_id": worker})

    def slots(self, seconds: float, *, run: str | None = None, without: str = "") -> int:
        recent = _seen_within(seconds)
        if run is not None:
            recent["only"] = {"$in": [None, run]}
        if without:
            recent["_id"] = {"$not": re.compile(f"^{re.escape(without)}")}
        with translated():
            found = list(
                self._workers.aggregate(
                    [{"$match": recent}, {"$group": {"_id": None, "slots": {"$sum": "$slots"}}}]
                )
            )
        return int(found[0]["slots"]) if found else 0

    def audit(self, what: str, *, run: str, who: str, why: str = "") -> None:
        entry = [
            {
                "$set": {
                    "at": "$$NOW",
                    **{
                        k: {"$literal": v}
                        for k, v in {"what": what, "run": run, "who": who, "why": why}.items()
                    },
                }
            }
        ]
        with translated():
            self._audit.update_one({"_id": ObjectId()}, entry, upsert=True)


def _seen_within(seconds: float) -> dict[str, Any]:
    return {"$expr": {"$gte": ["$seenAt", {"$subtract": ["$$NOW", int(seconds * 1000)]}]}}
