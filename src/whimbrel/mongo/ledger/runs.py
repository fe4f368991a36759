"""Stores runs. A run that holds its collection is `active`; a unique partial index allows one (hole H26)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.forecast import ProgressSample
from whimbrel.domain.runs.leg_counts import LegCounts
from whimbrel.domain.runs.run import Counts, Run, RunAtWork
from whimbrel.domain.runs.states import ENDED, RunStatus, sources
from whimbrel.domain.runs.tiling import Tiling
from whimbrel.errors import AlreadyStarted, CollectionBusy
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.chunk_time_rows import chunk_times_row
from whimbrel.mongo.ledger.format import MongoFormat
from whimbrel.mongo.ledger.leases import MongoLeases
from whimbrel.mongo.ledger.run_events import first_event, next_event
from whimbrel.mongo.ledger.run_lists import BRIEF, PAGE
from whimbrel.mongo.ledger.run_rows import (
    AT_WORK_FIELDS,
    at_work_of,
    run_of,
    run_row,
    sample_row,
    tiling_row,
)
from whimbrel.mongo.ledger.run_settings import AT_WORK, WORKED, RunSettings, working_time_fields


def _any_of(statuses: Iterable[RunStatus]) -> dict[str, Any]:
    return {"$in": sorted(str(status) for status in statuses)}


class MongoRuns(RunSettings):
    """Implements `whimbrel.ports.Runs`."""

    def __init__(
        self,
        collection: Collection[Any],
        leases: MongoLeases,
        format_: MongoFormat,
        prepare: Callable[[], None],
    ) -> None:
        super().__init__(collection, leases)
        self._format, self._prepare = format_, prepare

    def add(self, run: Run, who: str, *, holding: bool = False) -> Run:
        times = {"createdAt": "$$NOW", "updatedAt": "$$NOW", **first_event(str(run.status), who=who)}
        self._prepare()  # the indexes must exist before the first run of a ledger
        literal = run_row(run) | ({"active": True} if holding else {})
        self._format.note()
        new_row = [{"$replaceWith": {"$mergeObjects": [{"$literal": literal}, times]}}]
        with translated():
            try:
                row: Any = self._runs.find_one_and_update(
                    {"_id": run.id}, new_row, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError as error:
                if "startKey" in ((error.details or {}).get("keyPattern") or {}):
                    raise AlreadyStarted("Somebody else has just started it.") from error
                raise CollectionBusy(f"Another run holds {run.ns}.") from error
        self._leases.audit("run added", run=run.id, who=who)
        return run_of(row)

    def get(self, run_id: str) -> Run | None:
        with translated():
            row = self._runs.find_one({"_id": run_id})
        return run_of(row) if row else None

    def some(self, run_ids: Sequence[str]) -> Sequence[Run]:
        stages: Sequence[Mapping[str, Any]] = [{"$match": {"_id": {"$in": list(run_ids)}}}, *BRIEF]
        with translated():
            return [run_of(row) for row in self._runs.aggregate(stages, batchSize=len(run_ids) + 1)]

    def every(self, statuses: Iterable[RunStatus], *, ns: str | None = None) -> Iterator[Run]:
        query: dict[str, Any] = {"status": _any_of(statuses), **({"ns": ns} if ns is not None else {})}
        while True:
            with translated():
                page = list(self._runs.find(query).sort([("createdAt", 1), ("_id", 1)]).limit(PAGE))
            yield from map(run_of, page)
            if len(page) < PAGE:
                return
            created_at, last = page[-1]["createdAt"], page[-1]["_id"]
            query["createdAt"] = {"$gte": created_at}
            query["$or"] = [{"createdAt": {"$gt": created_at}}, {"_id": {"$gt": last}}]

    def counted(self, statuses: Iterable[RunStatus], *, ns: str | None = None) -> Mapping[RunStatus, int]:
        query = {"status": _any_of(statuses), **({"ns": ns} if ns is not None else {})}
        pipeline: Sequence[Any] = [{"$match": query}, {"$group": {"_id": "$status", "n": {"$sum": 1}}}]
        with translated():
            return {RunStatus(row["_id"]): int(row["n"]) for row in self._runs.aggregate(pipeline)}

    def at_work(self) -> Sequence[RunAtWork]:
        self._format.check()
        working = {"status": _any_of(AT_WORK)}
        with translated():
            rows = self._runs.find(working, AT_WORK_FIELDS).sort([("createdAt", 1), ("_id", 1)])
            return [at_work_of(row) for row in rows]

    def in_line(self) -> Sequence[str]:
        with translated():
            active = self._active_runs()
            free = {"status": "queued", "ns": {"$nin": [row["ns"] for row in active]}}
            oldest: Sequence[Any] = [
                {"$match": free},
                {"$sort": {"ns": 1, "createdAt": 1, "_id": 1}},
                {"$group": {"_id": "$ns", "run": {"$first": "$_id"}}},
            ]
            first = [row["run"] for row in self._runs.aggregate(oldest)]
        return [row["_id"] for row in active if row["status"] == "queued"] + sorted(first)

    def waiting(self) -> Sequence[tuple[str, int]]:
        with translated():
            queued = {"status": "queued", "ns": {"$in": [row["ns"] for row in self._active_runs()]}}
            pipeline: Sequence[Any] = [
                {"$match": {**queued, "active": {"$ne": True}}},
                {"$sort": {"ns": 1, "createdAt": 1, "_id": 1}},
                {"$group": {"_id": "$ns", "run": {"$first": "$_id"}, "n": {"$sum": 1}}},
                {"$sort": {"_id": 1}},
            ]
            return [(row["run"], int(row["n"]) - 1) for row in self._runs.aggregate(pipeline)]

    def _active_runs(self) -> Sequence[Any]:
        # All strings are above "", which lets the index of active runs serve.
        holding = {"active": True, "ns": {"$gte": ""}}
        return list(self._runs.find(holding, {"ns": 1, "status": 1}))

    def move(
        self,
        run_id: str,
        target: RunStatus,
        *,
        who: str,
        why: str = "",
        seen: RunStatus | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> bool:
        sets: dict[str, Any] = {
            "status": str(target),
            "active": True
            if target is RunStatus.RUNNING
            else False
            if target in ENDED
            else {"$ifNull": ["$active", False]},
            "updatedAt": "$$NOW",
            "startedAt": {"$ifNull": ["$startedAt", "$$NOW"]}
            if target is RunStatus.RUNNING
            else {"$ifNull": ["$startedAt", None]},
            "endedAt": "$$NOW" if target in ENDED else None,
            **working_time_fields(target),
            **next_event(str(target), who=who, why=why),
            **{name: {"$literal": value} for name, value in (fields or {}).items()},
        }
        allowed: dict[str, Any] = {
            "_id": run_id,
            "status": {"$in": [str(status) for status in sources(target) if seen in (None, status)]},
        }
        if target is RunStatus.QUEUED:
            allowed["undoneBy"] = None
        if seen is RunStatus.QUEUED and target is RunStatus.CANCELLED:
            allowed["startedAt"] = None
        with translated():
            try:
                moved = self._runs.update_one(allowed, [{"$set": sets}]).modified_count == 1
            except DuplicateKeyError:
                return False
        if moved:
            self._leases.audit(f"run {target}", run=run_id, who=who, why=why)
        return moved

    def note_planned(self, run_id: str, seq: int) -> None:
        with translated():
            self._runs.update_one({"_id": run_id}, {"$max": {"planned": seq}})

    def next_leg(self, run: Run) -> bool:
        with translated():
            moved = self._runs.update_one(
                {"_id": run.id, "leg": run.leg, "status": str(RunStatus.RUNNING)},
                [{"$set": {"leg": run.leg + 1, "updatedAt": "$$NOW"}}],
            )
        return moved.modified_count == 1

    def fold(
        self,
        run: Run,
        counts: Counts,
        through: int,
        *,
        inferred: bool,
        taken_over: bool = False,
        chunk_times: ChunkTimes | None = None,
        by_leg: Mapping[int, LegCounts] | None = None,
    ) -> bool:
        flags = {"inferred": inferred, "takenOver": taken_over}
        changes: dict[str, Any] = {
            "$inc": {
                "counts.changed": counts.changed,
                "counts.unchanged": counts.unchanged,
                "counts.skipped": counts.skipped,
                **{
                    f"chunkTimes.{name}": number
                    for name, number in chunk_times_row(chunk_times or ChunkTimes()).items()
                },
                **{
                    f"byLeg.{leg}.{name}": number
                    for leg, counts_of_leg in (by_leg or {}).items()
                    for name, number in asdict(counts_of_leg).items()
                },
            },
            "$set": {"foldedThrough": through, **{name: True for name, set_now in flags.items() if set_now}},
            "$currentDate": {"updatedAt": True},
        }
        with translated():
            folded = self._runs.update_one({"_id": run.id, "foldedThrough": run.folded_through}, changes)
        return folded.modified_count == 1

    def sample(self, run_id: str, samples: Sequence[ProgressSample], *, done: int, total: int) -> None:
        now = [[WORKED, {"$literal": done}, {"$literal": total}]]
        rows = {"$concatArrays": [{"$literal": [sample_row(sample) for sample in samples]}, now]}
        with translated():
            self._runs.update_one(
                {"_id": run_id, "status": str(RunStatus.RUNNING)}, [{"$set": {"samples": rows}}]
            )

    def keep_tiling(
        self, run_id: str, *, tiling: Tiling | None = None, checked: Tiling | None = None
    ) -> None:
        given = {"tiling": tiling, "checked": checked}
        self.describe(
            run_id, **{name: tiling_row(value) for name, value in given.items() if value is not None}
        )

    def undo(self, run_id: str, by: str, *, seen: str | None, who: str) -> bool:
        ended_run = {"_id": run_id, "status": {"$in": [str(status) for status in ENDED]}, "undoneBy": seen}
        with translated():
            result = self._runs.update_one(
                ended_run, {"$set": {"undoneBy": by}, "$currentDate": {"updatedAt": True}}
            )
        if result.matched_count:
            self._leases.audit("run undone", run=run_id, who=who, why=f"by run {by}")
        return result.matched_count == 1

    def ahead(self, ns: str) -> str | None:
        holder = self.holder(ns)
        if holder is not None:
            return holder
        waiting = {"ns": ns, "status": str(RunStatus.QUEUED)}
        with translated():
            row = self._runs.find_one(waiting, {"_id": 1}, sort=[("createdAt", 1)])
        return str(row["_id"]) if row else None

    def holder(self, ns: str) -> str | None:
        return self.holders([ns]).get(ns)
