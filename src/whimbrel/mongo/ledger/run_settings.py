"""What of a run changes while it is at work: its settings, what it may have of its speed, its stages."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pymongo import ReturnDocument
from pymongo.collection import Collection

from whimbrel.domain.runs.allowance import Allowance
from whimbrel.domain.runs.budget_texts import limits
from whimbrel.domain.runs.failure_budget import BrokenRule, FailureBudget, Standing
from whimbrel.domain.runs.run import Run, stage_refusal
from whimbrel.domain.runs.sizing import Sizing
from whimbrel.domain.runs.stages import GateLook, StageState
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.budget_rows import BUDGET_PATHS, broken_rows, budget_row, standing_row
from whimbrel.mongo.ledger.leases import MongoLeases
from whimbrel.mongo.ledger.run_events import next_event
from whimbrel.mongo.ledger.run_lists import RunLists
from whimbrel.mongo.ledger.run_rows import (
    allowance_row,
    gate_row,
)

DERIVED = ("pace", "sizing.measured")  # fields that follow from a setting: the audit names the setting
AT_WORK = frozenset({RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.CANCELLING})


# How long a run has worked: milliseconds, without the times when it was paused, waited, or had ended.
_SINCE = {"$subtract": ["$$NOW", {"$ifNull": ["$workingSince", "$$NOW"]}]}
WORKED = {"$add": [{"$ifNull": ["$worked", 0]}, _SINCE]}


def working_time_fields(target: RunStatus) -> dict[str, Any]:
    if target in AT_WORK:
        return {"workingSince": {"$ifNull": ["$workingSince", "$$NOW"]}}
    cleared: dict[str, Any] = {"samples": []} if target in ENDED else {}
    return {"worked": WORKED, "workingSince": None, **cleared}


def _audited(value: float | Sequence[str] | None) -> str:
    return "; ".join(value) or "none" if isinstance(value, Sequence) else str(value)


class RunSettings(RunLists):
    """Implements the settings of `whimbrel.ports.Runs`."""

    def __init__(self, collection: Collection[Any], leases: MongoLeases) -> None:
        super().__init__(collection)
        self._leases = leases

    def adjust(self, run_id: str, settings: Mapping[str, float | Sequence[str] | None], *, who: str) -> bool:
        names = {"batch_size": "batchSize", "follow": "follow.wanted", **BUDGET_PATHS}
        fields: dict[str, Any] = {names.get(name, name): value for name, value in settings.items()}
        if "batch_size" in settings:
            fields["sizing.measured"] = False
        if "rate" in settings:
            fields["pace"] = None  # what was reserved by the old rate
        now = {"updatedAt": True, "changedAt": True}
        live = {"_id": run_id, "status": {"$nin": [str(status) for status in ENDED]}}
        with translated():
            result = self._runs.update_one(
                live, {"$set": fields, "$inc": {"changes": 1}, "$currentDate": now}
            )
        if result.matched_count:
            changes = ", ".join(
                f"{name} {_audited(value)}" for name, value in fields.items() if name not in DERIVED
            )
            self._leases.audit("settings changed", run=run_id, who=who, why=changes)
        return result.matched_count == 1

    def resize(self, run: Run, size: int, sizing: Sizing) -> bool:
        seen = {"_id": run.id, "batchSize": run.batch_size}
        seen |= {"sizing.measured": True} if run.sizing.measured else {"sizing.measured": {"$ne": True}}
        with translated():
            result = self._runs.update_one(seen, {"$set": {"batchSize": size, "sizing": asdict(sizing)}})
        return result.matched_count == 1

    def hold(self, run_id: str, allowance: Allowance, message: str, *, waits: bool) -> None:
        clock: dict[str, Any] = (
            {"worked": WORKED, "workingSince": None}
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
                **working_time_fields(RunStatus.PAUSING),
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

    def describe(self, run_id: str, **fields: Any) -> None:
        with translated():
            self._runs.update_one({"_id": run_id}, {"$set": fields})
