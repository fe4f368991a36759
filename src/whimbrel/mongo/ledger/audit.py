"""Stores the audit: an entry for each thing that somebody did, with what it is found by."""

from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId
from bson.errors import InvalidId
from pymongo import UpdateOne
from pymongo.collection import Collection

from whimbrel.domain.runs.audit import ACTIONS, AuditEntry, AuditQuery, action_of, name_of
from whimbrel.domain.runs.run_cursor import WRONG, RunPlace
from whimbrel.errors import CursorInvalid
from whimbrel.masking import masked
from whimbrel.mongo.driver_errors import translated

NEWEST = {"at": -1, "_id": -1}
SOME = 1000  # rows of earlier versions that are completed at a time


def audit_fields(what: str, *, run: str, who: str, why: str) -> dict[str, Any]:
    """Returns the fields of an entry, but for its time."""
    return {"what": masked(what), "run": run, "who": who, "why": masked(why), **_found_by(what, who)}


def _found_by(what: str, who: str) -> dict[str, Any]:
    return {"action": action_of(what), "by": sorted({who, name_of(who)})}


class MongoAuditTrail:
    """Implements `whimbrel.ports.audit.AuditTrail`."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._rows = collection

    def list(
        self, query: AuditQuery, *, after: RunPlace | None = None, limit: int = 100
    ) -> Sequence[AuditEntry]:
        with translated():
            rows = self._rows.find(_selecting(query, after)).sort(NEWEST).limit(limit)
            return [_entry_of(row) for row in rows]

    def complete(self) -> None:
        """Adds what entries are found by to those that earlier versions have written."""
        without = {"action": None}
        while True:
            rows = list(self._rows.find(without, {"what": 1, "who": 1}).limit(SOME))
            if not rows:
                return
            changes = [
                UpdateOne({"_id": row["_id"]}, {"$set": _found_by(row["what"], row["who"])}) for row in rows
            ]
            self._rows.bulk_write(changes, ordered=False)


def _selecting(query: AuditQuery, after: RunPlace | None) -> dict[str, Any]:
    """Returns the query so that an index yields its entries in their order; what comes before the time in it is named."""
    selected: dict[str, Any] = {}
    if query.run is not None:
        selected["run"] = query.run
    if query.actor is not None:
        selected["by"] = query.actor
    if query.actions is not None or query.actor is not None:
        selected["action"] = {"$in": list(ACTIONS if query.actions is None else query.actions)}
    times = {"$gte": query.since, "$lt": query.until}
    bounds = {name: moment for name, moment in times.items() if moment is not None}
    if after is not None:
        try:
            last = ObjectId(after.id)
        except InvalidId as error:
            raise CursorInvalid(WRONG) from error
        bounds["$lte"] = after.created_at
        selected["$or"] = [{"at": {"$lt": after.created_at}}, {"_id": {"$lt": last}}]
    if bounds:
        selected["at"] = bounds
    return selected


def _entry_of(row: Mapping[str, Any]) -> AuditEntry:
    return AuditEntry(
        id=str(row["_id"]), at=row["at"], what=row["what"], who=row["who"], why=row["why"], run=row["run"] or None,
        action=row.get("action") or action_of(row["what"]),
    )  # fmt: skip
