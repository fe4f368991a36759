"""What is particular to a kind of run: how its batches are planned and executed, and what it says at its end.

All else is the same for every kind: claiming, leases, settling, folding, pausing, cancelling, failures.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from whimbrel.domain.batches import Batch
from whimbrel.domain.migration import Definition, Migration
from whimbrel.domain.runs import Run
from whimbrel.engine import hops
from whimbrel.engine.execute import execute
from whimbrel.engine.experience import Experience
from whimbrel.engine.gathering import Gatherings
from whimbrel.engine.lease import Lease
from whimbrel.engine.loop import EventLoop
from whimbrel.engine.pace import Pace
from whimbrel.engine.proving import Prover
from whimbrel.engine.steps import Step
from whimbrel.engine.transform import Transform
from whimbrel.ports import Documents, Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class Planning:
    """A run whose leg is not planned to its end. `last`: its last batch so far."""

    run: Run
    documents: Documents
    ledger: Ledger
    gatherings: Gatherings
    last: Batch | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Finishing:
    """A run whose batches are all settled. `seconds`: about what the answer may take."""

    run: Run
    documents: Documents
    ledger: Ledger
    prover: Prover
    seconds: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ends: whether with failures, and what it says of itself."""

    faults: bool
    message: str


class Job(ABC):
    """One kind of run. It keeps nothing: one for all runs of its kind."""

    def plan(self, at: Planning, room: int) -> list[Batch]:
        """The next batches of the leg, about `room` of them; none where they do not come in time."""
        return hops.ranges(at.run, at.documents, at.last, room)

    @abstractmethod
    def code(
        self, lease: Lease, migrations: Mapping[str, Migration], loop: EventLoop
    ) -> tuple[Definition, Transform]:
        """The definition by which a run's batches are executed, and what is asked for the documents of the one that is leased."""

    def execute(
        self,
        pace: Pace,
        documents: Documents,
        ledger: Ledger,
        definition: Definition,
        transform: Transform,
        *,
        turn: threading.Lock,
        experience: Experience,
        step: Step,
    ) -> None:
        """Work a claimed batch off and settle it. Raises Stopped, LeaseLost or Systemic."""
        execute(pace, documents, ledger, definition, transform, turn=turn, experience=experience, step=step)

    @abstractmethod
    def finish(self, at: Finishing) -> Outcome | None:
        """How the run ends; None where telling takes longer: asked again, it goes on."""


def unresolved_of(at: Finishing) -> Mapping[str, int]:
    """The failures that a run leaves, as `Failures.counts` has them: counted again where a crash has left them uncounted."""
    at.ledger.failures.add_up(at.run.id)
    return at.ledger.failures.counts(at.run.id)


def outcome(unresolved: Mapping[str, int], message: str) -> Outcome:
    return Outcome(unresolved["dead"] + unresolved["open"] > 0, message)
