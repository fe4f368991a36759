"""What distinguishes a kind of run: how its batches are planned and executed, and what it reports at its end.

All else is the same for every kind: claiming, leases, settling, folding, pausing, cancelling, failures.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.engine.executing.chunk_costs import ChunkCosts
from whimbrel.engine.executing.event_loop import EventLoop
from whimbrel.engine.executing.execute_batch import execute_batch
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.planning import range_planning
from whimbrel.engine.planning.key_planning import KeyPlans
from whimbrel.engine.planning.stage_planning import StagePlans
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.verifying.background_report import BackgroundReports
from whimbrel.ports import Documents, Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanningContext:
    """A run whose leg is not planned to its end. `last`: its last batch so far."""

    run: Run
    documents: Documents
    ledger: Ledger
    key_plans: KeyPlans
    last: Batch | None
    stage_plans: StagePlans


@dataclass(frozen=True, kw_only=True, slots=True)
class FinishingContext:
    """A run whose batches are all settled. `seconds`: about how long finishing may take."""

    run: Run
    documents: Documents
    ledger: Ledger
    prover: BackgroundReports
    seconds: float


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ends: whether with failures, and its message."""

    faults: bool
    message: str


class KindOfRun(ABC):
    """One kind of run. It has no state: one object serves all runs of its kind."""

    def plan(self, planning: PlanningContext, room: int) -> list[Batch]:
        """Returns the next batches of the leg, about `room` of them; none where they cannot be planned in time."""
        return range_planning.plan_ranges(planning.run, planning.documents, planning.last, room)

    @abstractmethod
    def definition_and_transform(
        self, lease: Lease, migrations: Mapping[str, Migration], loop: EventLoop
    ) -> tuple[Definition, Transform]:
        """Returns the definition by which a run's batches are executed, and the transform for the documents of the leased batch."""

    def execute(
        self,
        pace: Pace,
        documents: Documents,
        ledger: Ledger,
        definition: Definition,
        transform: Transform,
        *,
        turn: threading.Lock,
        chunk_costs: ChunkCosts,
        step: Step,
    ) -> None:
        """Executes a claimed batch and settles it. Raises LeaseStopped, LeaseLost or Systemic."""
        execute_batch(
            pace, documents, ledger, definition, transform, turn=turn, chunk_costs=chunk_costs, step=step
        )

    @abstractmethod
    def finish(self, finishing: FinishingContext) -> RunOutcome | None:
        """Returns how the run ends; None where finding out takes longer: the next call continues."""


def unresolved_failures(finishing: FinishingContext) -> Mapping[str, int]:
    """Returns the failures that a run leaves, as `Failures.counts` has them: counted again where a crash has left them uncounted."""
    finishing.ledger.failures.add_up(finishing.run.id)
    return finishing.ledger.failures.counts(finishing.run.id)


def run_outcome(unresolved: Mapping[str, int], message: str) -> RunOutcome:
    return RunOutcome(unresolved["dead"] + unresolved["open"] > 0, message)
