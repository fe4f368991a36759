"""Stores runs. A run that holds its collection is `active`; a unique partial index allows one (hole H26)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from whimbrel.domain.runs.allowance import Allowance
from whimbrel.domain.runs.budget_texts import limits
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.failure_budget import BrokenRule, FailureBudget, Standing
from whimbrel.domain.runs.forecast import ProgressSample
from whimbrel.domain.runs.run import Counts, Run, RunAtWork, stage_refusal
from whimbrel.domain.runs.sizing import Sizing
from whimbrel.domain.runs.stages import GateLook, StageState
from whimbrel.domain.runs.states import ENDED, RunStatus, sources
from whimbrel.domain.runs.tiling import Tiling
from whimbrel.errors import AlreadyStarted, CollectionBusy
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.budget_rows import BUDGET_PATHS, broken_rows, budget_row, standing_row
from whimbrel.mongo.ledger.chunk_time_rows import chunk_times_row
from whimbrel.mongo.ledger.format import MongoFormat
from whimbrel.mongo.ledger.leases import MongoLeases
from whimbrel.mongo.ledger.run_events import first_event, next_event
from whimbrel.mongo.ledger.run_lists import PAGE, RunLists
from whimbrel.mongo.ledger.run_rows import (
    AT_WORK_FIELDS,
    allowance_row,
    at_work_of,
    gate_row,
    run_of,
    run_row,
    sample_row,
    tiling_row,
)

AT_WORK = frozenset({RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.CANCELLING})


# How long a run has worked: milliseconds, without the times when it was paused, waited, or had ended.
_SINCE = {"$subtract": ["$$NOW", {"$ifNull": ["$workingSince", "$$NOW"]}]}
_WORKED = {"$add": [{"$ifNull": ["$worked", 0]}, _SINCE]}


def _working_time_fields(target: RunStatus) -> dict[str, Any]:
    if target in AT_WORK:
        return {"workingSince": {"$ifNull": ["$workingSince", "$$NOW"]}}
    cleared: dict[str, Any] = {"samples": []} if target in ENDED else {}
    return {"worked": _WORKED, "workingSince": None, **cleared}


def _audited(value: int | Sequence[str] | None) -> str:
    return str(value) if value is None or isinstance(value, int) else "; ".join(value) or "none"


def _any_of(statuses: Iterable[RunStatus]) -> dict[str, Any]:
    return {"$in": sorted(str(status) for status in statuses)}


class MongoRuns(RunLists):
    """Implements `whimbrel.ports.Runs`."""

    def __init__(
        self,
        collection: Collection[Any],
        leases: MongoLeases,
        format_: MongoFormat,
        prepare: Callable[[], None],
    ) -> None:
        super().__init__(collection)
        self._leases = leases
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
            **_working_time_fields(target),
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
            },
            "$set": {"foldedThrough": through, **{name: True for name, set_now in flags.items() if set_now}},
            "$currentDate": {"updatedAt": True},
        }
        with translated():
            folded = self._runs.update_one({"_id": run.id, "foldedThrough": run.folded_through}, changes)
        return folded.modified_count == 1

    def sample(self, run_id: str, samples: Sequence[ProgressSample], *, done: int, total: int) -> None:
        now = [[_WORKED, {"$literal": done}, {"$literal": total}]]
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

    def adjust(self, run_id: str, settings: Mapping[str, float | Sequence[str] | None], *, who: str) -> bool:
        names = {"batch_size": "batchSize", "follow": "follow.wanted", **BUDGET_PATHS}
        fields: dict[str, Any] = {names.get(name, name): value for name, value in settings.items()}
        if "batch_size" in settings:
            fields["sizing.measured"] = False
        if "rate" in settings:
            fields["pace"] = None  # what was reserved by the old rate
        live = {"_id": run_id, "status": {"$nin": [str(status) for status in ENDED]}}
        with translated():
            result = self._runs.update_one(live, {"$set": fields, "$currentDate": {"updatedAt": True}})
        if result.matched_count:
            changes = ", ".join(
                f"{name} {_audited(value)}" for name, value in fields.items() if name != "pace"
            )
            self._leases.audit("settings changed", run=run_id, who=who, why=changes)
        return result.matched_count == 1

    def resize(self, run: Run, size: int, sizing: Sizing) -> bool:
        seen = {"_id": run.id, "batchSize": run.batch_size}
        seen |= {"sizing.measured": True} if run.sizing.measured else {"sizing.measured": {"$ne": True}}
        with translated():
            result = self._runs.update_one(seen, {"$set": {"batchSize": size, "sizing": asdict(sizing)}})
        return result.matched_count == 1

    def hold(self, run_id: str, allowance: Allowance, message: str) -> None:
        waits = allowance.share == 0.0
        clock: dict[str, Any] = (
            {"worked": _WORKED, "workingSince": None}
            if waits
            else {"workingSince": {"$ifNull": ["$workingSince", "$$NOW"]}}
        )
        said = {"allowance": {"$literal": allowance_row(allowance)}, "message": {"$literal": message}}
        with translated():
            self._runs.update_one({"_id": run_id, "status": str(RunStatus.RUNNING)}, [{"$set": said | clock}])

    def set_budget(self, run_id: str, budget: FailureBudget, forgiven: Standing | None, *, who: str) -> None:
        changes = {"budget": budget_row(budget), "forgiven": standing_row(forgiven)}
        with translated():
            self._runs.update_one({"_id": run_id}, {"$set": changes, "$currentDate": {"updatedAt": True}})
        told = f"failure budget: {limits(budget) or 'none'}"
        if forgiven is not None:
            told += f"; what failed of the first {forgiven.documents:,} documents counts no more"
        self._leases.audit("settings changed", run=run_id, who=who, why=told)

    def note_over_budget(self, run_id: str, broken: Sequence[BrokenRule]) -> None:
        self.describe(run_id, overBudget=broken_rows(broken))

    def reserve(self, run_id: str, documents: int, rate: int) -> float:
        now = {"$toDouble": {"$toLong": "$$NOW"}}
        reserved = {"$add": [{"$max": ["$pace", now]}, 1000 * documents / rate]}
        with translated():
            # The answer is stored in the row: when the driver sends a statement twice, the server answers with the row
            # as it was left, and evaluates no projection.
            row = self._runs.find_one_and_update(
                {"_id": run_id}, [{"$set": {"pace": reserved}}, {"$set": {"turn": {"$subtract": ["$pace", now]}}}],
                projection={"turn": 1}, return_document=ReturnDocument.AFTER,
            )  # fmt: skip
        return float(row["turn"]) / 1000 if row else 0.0

    def move_stage(
        self,
        run: Run,
        target: StageState,
        *,
        seen: StageState,
        who: str,
        looked: GateLook | None = None,
        approved: bool = False,
    ) -> bool:
        path, sets = f"stages.at.{run.stage}", dict[str, Any]()
        if looked is not None:
            found = {
                "evaluated": looked.evaluated,
                "failed": looked.failed,
                "conflicts": looked.conflicts,
                "gate": gate_row(looked.findings),
            }
            sets = {f"{path}.{name}": {"$literal": value} for name, value in found.items()} | {
                f"{path}.lookedAt": "$$NOW"
            }
        if approved:
            sets[f"{path}.approvedBy"] = {"$literal": who}
        if target is StageState.HOLDING and run.stages is not None:
            sets[f"{path}.heldUntil"] = {"$add": ["$$NOW", int(run.stages.hold * 1000)]}
        if target is StageState.PASSED:
            sets[f"{path}.passedAt"] = "$$NOW"
        sets |= {f"{path}.state": str(target), "updatedAt": "$$NOW"}
        as_seen: dict[str, Any] = {"_id": run.id, "leg": run.leg, f"{path}.state": str(seen)}
        if target is StageState.REFUSED and looked is not None:
            why = stage_refusal(run, looked)
            sets |= {
                "status": str(RunStatus.PAUSING),
                "error": {"$literal": why},
                **_working_time_fields(RunStatus.PAUSING),
                **next_event(str(RunStatus.PAUSING), who=who, why=why),
            }
            as_seen["status"] = str(RunStatus.RUNNING)
        with translated():
            moved = self._runs.update_one(as_seen, [{"$set": sets}]).modified_count == 1
        if moved:
            reason = looked.why_not if looked else ""
            self._leases.audit(f"stage {(run.stage or 0) + 1} {target}", run=run.id, who=who, why=reason)
        return moved

    def hold_over(self, run: Run) -> bool:
        over = {"_id": run.id, "$expr": {"$lte": [f"$stages.at.{run.stage}.heldUntil", "$$NOW"]}}
        with translated():
            return self._runs.find_one(over, {"_id": 1}) is not None

    def undo(self, run_id: str, by: str, *, seen: str | None, who: str) -> bool:
        ended_run = {"_id": run_id, "status": {"$in": [str(status) for status in ENDED]}, "undoneBy": seen}
        with translated():
            result = self._runs.update_one(
                ended_run, {"$set": {"undoneBy": by}, "$currentDate": {"updatedAt": True}}
            )
        if result.matched_count:
            self._leases.audit("run undone", run=run_id, who=who, why=f"by run {by}")
        return result.matched_count == 1

    def describe(self, run_id: str, **fields: Any) -> None:
        with translated():
            self._runs.update_one({"_id": run_id}, {"$set": fields})

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
