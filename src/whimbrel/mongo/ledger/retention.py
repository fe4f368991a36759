"""Removes old rows.

A run whose marks may be in documents leaves one small row, so that its marks stay known; so does the last run that completed a migration.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.standing import PrunedRun, over_everything
from whimbrel.domain.runs.states import RunStatus
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.codes import later_of
from whimbrel.mongo.ledger.run_rows import run_of
from whimbrel.ports.retention import Audited, Entry, Removed

PAGE = 200  # runs that are read at once
DAY = 86_400_000  # milliseconds
COMPLETED = (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)


class Remains:
    """Knows the batches that were pruned, by their marks."""

    def __init__(self, pruned: Collection[Any]) -> None:
        self._pruned = pruned

    def known(self, tokens: Iterable[str]) -> set[str]:
        """Returns the tokens that name a batch of a pruned run."""
        by_run: dict[str, list[tuple[int, str]]] = {}
        for token in tokens:
            run, _, seq = token.partition(".")
            if seq.isdecimal():
                by_run.setdefault(run, []).append((int(seq), token))
        if not by_run:
            return set()
        rows = self._pruned.find({"_id": {"$in": list(by_run)}}, {"batches": 1})
        return {token for row in rows for seq, token in by_run[row["_id"]] if 1 <= seq <= row["batches"]}


class MongoRetention:
    """Implements `whimbrel.ports.Retention`."""

    def __init__(self, pruned: Collection[Any], collections: dict[str, Collection[Any]]) -> None:
        self._pruned, self._runs, self._batches = pruned, collections["runs"], collections["batches"]
        self._failures, self._causes, self._blocks = (
            collections["failures"],
            collections["causes"],
            collections["blocks"],
        )
        self._known = collections["known"]
        self._codes = collections["codes"]
        self._series = collections["series"]
        self._leases, self._workers, self._audit = (
            collections["leases"],
            collections["workers"],
            collections["audit"],
        )

    def old(self, days: float, *, after: Run | None = None) -> Iterator[Run]:
        query: dict[str, Any] = {"endedAt": {"$type": "date"}, "$expr": _older_than("$endedAt", days)}
        if after is not None:
            query |= _after_row("endedAt", after.ended_at, after.id)
        while True:
            with translated():
                page = list(self._runs.find(query).sort([("endedAt", 1), ("_id", 1)]).limit(PAGE))
            yield from map(run_of, page)
            if len(page) < PAGE:
                return
            query |= _after_row("endedAt", page[-1]["endedAt"], page[-1]["_id"])

    def is_old(self, run: Run, days: float) -> bool:
        with translated():
            old = {"_id": run.id, "endedAt": {"$type": "date"}, "$expr": _older_than("$endedAt", days)}
            return self._runs.find_one(old, {"_id": 1}) is not None

    def begin(self, run: Run, *, verified: bool = False) -> bool:
        with translated():
            same = {
                "_id": run.id,
                "status": str(run.status),
                "updatedAt": run.updated_at,
                "undoneBy": run.undone_by,
            }
            if self._runs.find_one(same, {"_id": 1}) is None:
                return False
            last = self._batches.find_one({"run": run.id}, {"_id": 0, "seq": 1}, sort=[("seq", -1)])
            marks = run.marking.path is not None and run.counts.total > 0
            row = {
                "batches": int(last["seq"]) if last else 0,
                "left": True,
                "marks": marks,
                **_completed_row(run, verified=verified),
            }
            self._pruned.update_one({"_id": run.id}, {"$setOnInsert": row}, upsert=True)
            if self._runs.delete_one(same).deleted_count:
                if over_everything(run) or run.kind == "rollback":
                    self._forget_completed(run)
                return True
            if self._runs.find_one({"_id": run.id}, {"_id": 1}) is not None:
                self._pruned.delete_one({"_id": run.id})
            return False

    def completed(self, migration: str, version: int, ns: str) -> PrunedRun | None:
        same: dict[str, Any] = {"whole": True, "migration": migration, "version": version, "ns": ns}
        with translated():
            row = self._pruned.find_one(same, sort=[("createdAt", -1)])
        if row is None:
            return None
        uuid = None if row["uuid"] is None else bytes(row["uuid"])
        return PrunedRun(
            id=row["_id"],
            created_at=row["createdAt"],
            ended_at=row["endedAt"],
            verified=row["verified"],
            collection_uuid=uuid,
        )

    def _forget_completed(self, run: Run) -> None:
        """Forgets the earlier completion of a version: a later run over everything, or a rollback, has taken its place."""
        earlier: dict[str, Any] = {
            "_id": {"$ne": run.id}, "whole": True, "migration": run.migration, "version": run.version, "ns": run.ns,
            "createdAt": {"$lte": run.created_at},
        }  # fmt: skip
        self._pruned.delete_many({**earlier, "marks": False, "left": False})
        self._pruned.update_many(earlier, {"$set": {"whole": False}})

    def begun(self) -> Sequence[str]:
        with translated():
            return [row["_id"] for row in self._pruned.find({"left": True}, {"_id": 1})]

    def remove(self, run_id: str, limit: int) -> Removed:
        with translated():
            # Its removal has not begun after all. Changed, so that another process which is about to begin it does not.
            if self._runs.update_one({"_id": run_id}, {"$currentDate": {"updatedAt": True}}).matched_count:
                self._pruned.delete_one({"_id": run_id})
                return Removed()
            failures = _delete_some(self._failures, {"run": run_id}, limit)
            batches = _delete_some(self._batches, {"run": run_id}, limit) if failures < limit else 0
            if max(failures, batches) == limit:
                return Removed(batches, failures, incomplete=True)
            # Few rows: `domain.failures.causes.GROUPS`, and a thousandth of the batches.
            for rows in (self._causes, self._blocks, self._known):
                rows.delete_many({"run": run_id})
            self._codes.delete_many(later_of(run_id))  # few: files of a program
            self._leases.delete_one({"_id": f"coordinator:{run_id}"})
            self._series.delete_one({"_id": run_id})
            _delete_some(self._audit, {"run": run_id}, limit)
            self._pruned.delete_one({"_id": run_id, "marks": False, "whole": {"$ne": True}})
            self._pruned.update_one({"_id": run_id}, {"$set": {"left": False}})
            return Removed(batches, failures)

    def audit(self, days: float, limit: int, *, after: Entry | None = None) -> Audited:
        query: dict[str, Any] = {"at": {"$type": "date"}, "$expr": _older_than("$at", days)}
        if after is not None:
            query |= _after_row("at", after.time, ObjectId(after.id))
        with translated():
            old = self._audit.find(query, {"run": 1, "at": 1}).sort([("at", 1), ("_id", 1)])
            rows = list(old.limit(limit))
            run_ids = {row["run"] for row in rows} - {""}
            existing_runs = {
                row["_id"] for row in self._runs.find({"_id": {"$in": list(run_ids)}}, {"_id": 1})
            }
            removable = [row["_id"] for row in rows if row["run"] not in existing_runs]
            removed = self._audit.delete_many({"_id": {"$in": removable}}).deleted_count
        last = Entry(rows[-1]["at"], str(rows[-1]["_id"])) if len(rows) == limit else None
        return Audited(removed, last)

    def processes(self, days: float) -> int:
        with translated():
            old_workers = {"seenAt": {"$type": "date"}, "$expr": _older_than("$seenAt", days)}
            old_leases = {"until": {"$type": "date"}, "$expr": _older_than("$until", days)}
            dead = self._workers.delete_many(old_workers).deleted_count
            return dead + self._leases.delete_many(old_leases).deleted_count


def _completed_row(run: Run, *, verified: bool) -> dict[str, Any]:
    """Returns what tells later that a run has completed its migration; nothing where it has not."""
    if not over_everything(run) or run.undone_by is not None or run.status not in COMPLETED:
        return {}
    return {
        "whole": True, "migration": run.migration, "version": run.version, "ns": run.ns, "createdAt": run.created_at, "endedAt": run.ended_at,
        "uuid": run.collection_uuid, "verified": verified,
    }  # fmt: skip


def _after_row(field: str, time: datetime | None, last: Any) -> dict[str, Any]:
    """Selects what comes after a row in the order of a time, in a form that its index serves."""
    return {field: {"$type": "date", "$gte": time}, "$or": [{field: {"$gt": time}}, {"_id": {"$gt": last}}]}


def _older_than(field: str, days: float) -> dict[str, Any]:
    return {"$lt": [field, {"$subtract": ["$$NOW", int(days * DAY)]}]}


def _delete_some(rows: Collection[Any], query: dict[str, Any], limit: int) -> int:
    ids = [row["_id"] for row in rows.find(query, {"_id": 1}).limit(limit)]
    return rows.delete_many({"_id": {"$in": ids}}).deleted_count if ids else 0
