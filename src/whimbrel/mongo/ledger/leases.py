"""Stores the roles that one process has at a time, the live workers, and the audit of who did what."""

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.workers import Worker
from whimbrel.errors import Transient
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.audit import audit_fields
from whimbrel.mongo.ledger.rows import FORMAT, worker_of

PROBING = 5.0  # seconds within which a written row must be readable


class MongoLeases:
    """Implements `whimbrel.ports.Leases`."""

    def __init__(self, leases: Collection[Any], workers: Collection[Any], audit: Collection[Any]) -> None:
        self._leases, self._workers, self._audit = leases, workers, audit

    def lead(self, role: str, holder: str, seconds: float, *, within: float | None = None) -> bool:
        mine_or_over = {"$or": [{"holder": holder}, {"$expr": {"$lt": ["$until", "$$NOW"]}}]}
        hold = [{"$set": {"holder": {"$literal": holder}, "until": {"$add": ["$$NOW", int(seconds * 1000)]}}}]
        with translated(), pymongo.timeout(within):
            if self._leases.update_one({"_id": role, **mine_or_over}, hold).matched_count:
                return True
            try:  # an upsert does not allow $expr: this one only creates a missing role
                self._leases.update_one({"_id": role, "holder": holder}, hold, upsert=True)
            except DuplicateKeyError:
                return False
        return True

    def step_down(self, holder: str, *, role: str = "") -> None:
        with translated():
            self._leases.delete_many({"holder": holder, "_id": {"$regex": f"^{re.escape(role)}"}})

    def beat(self, worker: str, **facts: Any) -> None:
        stated = {name: {"$literal": value} for name, value in {**facts, "format": FORMAT}.items()}
        times = {"seenAt": "$$NOW", "startedAt": {"$ifNull": ["$startedAt", "$$NOW"]}}
        with translated():
            self._workers.update_one({"_id": worker}, [{"$set": stated | times}], upsert=True)

    def workers(self, seconds: float) -> Sequence[Worker]:
        with translated():
            rows = list(self._workers.find(_seen_within(seconds), sort=[("_id", 1)]))
        return [worker_of(row) for row in rows]

    def lost_workers(self, seconds: float, *, within: float, limit: int) -> Sequence[Worker]:
        lost = {"$and": [_seen_within(within), {"$nor": [_seen_within(seconds)]}]}
        with translated():
            rows = list(self._workers.find(lost, sort=[("seenAt", -1), ("_id", 1)]).limit(limit))
        return [worker_of(row) for row in rows]

    def older_than(self, format_: int, seconds: float) -> list[str]:
        """Returns the live workers that write the ledger in an older format, as host:pid. The first format has no number."""
        older = {"$or": [{"format": {"$exists": False}}, {"format": {"$lt": format_}}]}
        with translated():
            rows = self._workers.find({"$and": [_seen_within(seconds), older]}, {"host": 1, "pid": 1}).limit(
                10
            )
            return [f"{row.get('host', '?')}:{row.get('pid', '?')}" for row in rows]

    def leave(self, worker: str) -> None:
        with translated():
            self._workers.delete_one({"_id": worker})

    def slots(self, seconds: float, *, run: Run | None = None, without: str = "") -> int:
        recent = _seen_within(seconds)
        if run is not None:
            recent["only"] = {"$in": [None, run.id]}
            if run.has_user_code:
                recent["code"] = {"$elemMatch": {"migration": run.migration, "hash": run.code_hash}}
                recent["refuses"] = {"$not": {"$elemMatch": {"run": run.id, "pinned": run.code_hash}}}
        if without:
            recent["_id"] = {"$not": re.compile(f"^{re.escape(without)}")}
        with translated():
            rows = list(
                self._workers.aggregate(
                    [{"$match": recent}, {"$group": {"_id": None, "slots": {"$sum": "$slots"}}}]
                )
            )
        return int(rows[0]["slots"]) if rows else 0

    def audit(self, what: str, *, run: str, who: str, why: str = "") -> None:
        fields = audit_fields(what, run=run, who=who, why=why)
        entry = [{"$set": {"at": "$$NOW", **{name: {"$literal": value} for name, value in fields.items()}}}]
        with translated():
            self._audit.update_one({"_id": ObjectId()}, entry, upsert=True)

    def is_off(self, name: str) -> bool:
        with translated():
            return self._leases.find_one({"_id": f"switch:{name}", "off": True}, {"_id": 1}) is not None

    def switch(self, name: str, *, on: bool, who: str, ticket: str = "") -> bool:
        row = {"_id": f"switch:{name}"}
        bound = on and ticket
        with translated():
            before = self._leases.find_one_and_update(
                {**row, "ticket": ticket} if bound else row,
                {"$set": {"off": not on, "ticket": "" if on else ticket}},
                upsert=not bound,
            )
        if bound and before is None:
            return False
        taken_from_a_restart = bool(not on and not ticket and before and before.get("ticket"))
        changed = bool(before and before["off"]) is on or taken_from_a_restart
        if changed:
            self.audit(f"{name} {'started' if on else 'stopped'}", run="", who=who)
        return changed

    def remember(self, name: str, value: Mapping[str, Any], *, who: str) -> None:
        stored = [{"$set": {"value": {"$literal": value}, "at": "$$NOW"}}]
        with translated():
            self._leases.update_one({"_id": f"kept:{name}"}, stored, upsert=True)
        self.audit(f"{name} kept", run="", who=who)

    def recall(self, name: str) -> tuple[Mapping[str, Any], datetime] | None:
        with translated():
            row = self._leases.find_one({"_id": f"kept:{name}"})
        return (row["value"], row["at"]) if row else None

    def probe(self) -> float:
        row = {"_id": f"probe:{secrets.token_hex(8)}"}
        began = time.perf_counter()
        with translated():
            self._leases.insert_one(dict(row))
            try:
                while (
                    self._leases.find_one(row) is None
                ):  # acknowledged by the majority, not readable there yet
                    if time.perf_counter() - began > PROBING:
                        raise Transient(f"A row of the ledger could not be read within {PROBING:g} seconds.")
                    time.sleep(0.001)
                return time.perf_counter() - began
            finally:
                self._leases.delete_one(row)


def _seen_within(seconds: float) -> dict[str, Any]:
    return {"$expr": {"$gte": ["$seenAt", {"$subtract": ["$$NOW", int(seconds * 1000)]}]}}
