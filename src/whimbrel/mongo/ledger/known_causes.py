"""Stores what people have said of the causes of a run's failures: a row for each cause that was seen, or accepted."""

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection

from whimbrel.domain.failures.known_causes import LONGEST_NOTE, KnownCause
from whimbrel.masking import masked
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.leases import MongoLeases


class MongoKnownCauses:
    """Implements `whimbrel.ports.known_causes.KnownCauses`."""

    def __init__(self, collection: Collection[Any], leases: MongoLeases) -> None:
        self._rows, self._leases = collection, leases

    def of(self, run_id: str) -> Mapping[str, KnownCause]:
        with translated():
            rows = list(self._rows.find({"run": run_id}))
        return {
            row["group"]: KnownCause(row["group"], row["accepted"], row["who"], row["at"], row["note"])
            for row in rows
        }

    def accept(self, run_id: str, groups: Sequence[str], *, who: str, note: str = "") -> None:
        changes = [UpdateOne({"_id": _id(run_id, group)}, _row(run_id, group, who, note, accepted=True), upsert=True) for group in groups]  # fmt: skip
        self._write(changes)
        self._audit("accepted", run_id, groups, who, note)

    def see(self, run_id: str, groups: Sequence[str], *, who: str, note: str) -> None:
        changes = [UpdateOne({"_id": _id(run_id, group)}, _unless_there(_row(run_id, group, who, note, accepted=False)), upsert=True) for group in groups]  # fmt: skip
        self._write(changes)
        self._audit("seen", run_id, groups, who, note)

    def withdraw(self, run_id: str, groups: Sequence[str], *, who: str, note: str = "") -> int:
        with translated():
            ids = [_id(run_id, group) for group in groups]
            removed = self._rows.delete_many({"_id": {"$in": ids}}).deleted_count
        if removed:
            self._audit("no longer accepted", run_id, groups, who, note)
        return removed

    def copy(self, run_id: str, to: str) -> None:
        with translated():
            rows = list(self._rows.find({"run": run_id}))
        self._write([
            UpdateOne(
                {"_id": _id(to, row["group"])},
                {"$set": {"run": to, **{name: row[name] for name in ("group", "accepted", "who", "at", "note")}}},
                upsert=True,
            )
            for row in rows
        ])  # fmt: skip

    def _write(self, changes: Sequence[UpdateOne]) -> None:
        if changes:
            with translated():
                self._rows.bulk_write(list(changes), ordered=False)

    def _audit(self, what: str, run_id: str, groups: Sequence[str], who: str, note: str) -> None:
        if groups:
            self._leases.audit(f"causes {what}: {', '.join(groups)}", run=run_id, who=who, why=note)


def _id(run_id: str, group: str) -> dict[str, str]:
    return {"r": run_id, "g": group}


def _row(run_id: str, group: str, who: str, note: str, *, accepted: bool) -> list[dict[str, Any]]:
    fields = {
        "run": run_id,
        "group": group,
        "accepted": accepted,
        "who": who,
        "note": masked(note[:LONGEST_NOTE]),
    }
    stated = {name: {"$literal": value} for name, value in fields.items()}
    return [{"$set": {**stated, "at": "$$NOW"}}]


def _unless_there(change: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the change so that it leaves a row that exists as it is."""
    (stage,) = change
    kept = {name: {"$ifNull": [f"${name}", value]} for name, value in stage["$set"].items()}
    return [{"$set": kept}]
