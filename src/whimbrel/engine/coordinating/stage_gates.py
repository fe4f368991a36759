"""The gates of stages: whether a run may go on to its next stage, decided by conditional updates of its row."""

from collections.abc import Iterator

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import STALE_SLOW
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import LEGS_OF_STAGE, Run, eligible, stage_name
from whimbrel.domain.runs.stages import (
    GateFinding,
    GateLook,
    Stage,
    StageState,
    documents_of,
    judge_failures,
    judge_sample,
)
from whimbrel.engine.operating.failure_budget import note_all_seen
from whimbrel.engine.protocol_steps import Step
from whimbrel.ports import Documents, Ledger

SAMPLED = 1000  # documents of a stage
BATCHES = 20  # that they are taken from, spread over the stage
CANARIES = ("read-canary", "write-canary")

S = StageState


def stage_message(run: Run) -> str:
    """Returns why a run does not go on after a stage; an empty string where it does."""
    if run.stages is None or run.stage is None or run.stage >= run.stages.gates:
        return ""
    stage = run.stages.stages[run.stage]
    if stage.state is S.HOLDING and stage.held_until is not None:
        return (
            f"Waits: {stage_name(run)} is done, and is held until {stage.held_until:%Y-%m-%d %H:%M:%S} UTC."
        )
    if stage.state is S.APPROVAL:
        return f"Waits: {stage_name(run)} is done, and a person must approve it: whimbrel approve {run.id}"
    return ""


class StageGates:
    """Looks at the gates of the runs that one process coordinates."""

    def __init__(self, ledger: Ledger, *, name: str, step: Step) -> None:
        self._ledger, self._name, self._step = ledger, name, step

    def is_open(self, run: Run, documents: Documents) -> bool:
        """Whether a run whose leg is done may begin the next one. Where it may not, decides what there is to decide."""
        if run.stages is None or run.leg >= run.main_leg or run.leg % LEGS_OF_STAGE != LEGS_OF_STAGE - 1:
            return True
        stage = run.stages.stages[run.stage or 0]
        if stage.state is S.PASSED:
            return True
        if stage.state is S.APPROVAL or (stage.state is S.HOLDING and not self._ledger.runs.hold_over(run)):
            return False
        if not documents_of(run.stages, run.stage or 0, run.estimated):  # an earlier stage was larger
            return self._move(run, S.PASSED, stage, None)
        looked = self._look(run, documents)
        return self._move(run, _following(run, stage, looked), stage, looked)

    def _move(self, run: Run, target: StageState, stage: Stage, looked: GateLook | None) -> bool:
        self._step("G1")
        if target in (S.PASSED, S.APPROVAL):  # what a stage has shown is not new to the next one
            note_all_seen(self._ledger, run.id, who=self._name, where="an earlier stage")
        moved = self._ledger.runs.move_stage(run, target, seen=stage.state, who=self._name, looked=looked)
        return moved and target is S.PASSED

    def _look(self, run: Run, documents: Documents) -> GateLook:
        self._ledger.failures.add_up(run.id)
        numbers = self._ledger.failures.counts(run.id)
        failed, conflicts = numbers["failed"], numbers["conflict"]
        evaluated = run.counts.total + failed + conflicts
        before = run.stages.stages[run.stage - 1] if run.stages and run.stage else Stage(asked="")
        findings = judge_failures(
            evaluated - before.evaluated,
            max(0, failed - before.failed),
            max(0, conflicts - before.conflicts),
            tolerated=run.budget.rate,
        )
        sample = self._sampled(run, documents)
        return GateLook(
            evaluated=evaluated,
            failed=failed,
            conflicts=conflicts,
            findings=(*findings, self._canary(), sample),
        )

    def _canary(self) -> GateFinding:
        verdict = self._ledger.health.verdict()
        known = [verdict.signals[name].level for name in CANARIES if name in verdict.signals]
        if verdict.age is None or verdict.age > STALE_SLOW or not known:
            return GateFinding("canary", None, "Nobody measures how long a read and a write take.")
        reason = next((reason for reason in verdict.reasons if reason.signal in CANARIES), None)
        if reason is not None:
            return GateFinding("canary", False, f"{reason.sentence}.")
        if Level.UNKNOWN in known:
            return GateFinding("canary", None, "How long a read and a write take could not be measured.")
        return GateFinding("canary", True, "A read and a write take no longer than they should.")

    def _sampled(self, run: Run, documents: Documents) -> GateFinding:
        """Examines documents that the stage has evaluated: those that are eligible still must have a row that tells why."""
        keys = self._sample(run)
        query, left = eligible(run, run.legs[run.leg - 1]), 0
        if keys and documents.count(keys, query):
            told = set(self._ledger.failures.excluded(run.id, keys))
            left = (
                documents.count([key for key in keys if key not in told], query)
                if len(told) < len(keys)
                else 0
            )
        return judge_sample(len(keys), left)

    def _sample(self, run: Run) -> list[Key]:
        """Returns keys that batches of the stage have named: some of each of some batches, evenly spread."""
        batches = list(self._batches(run, run.leg - 1))
        each = max(1, SAMPLED // max(1, len(batches)))
        return [key for batch in batches for key in (batch.ids or ())[:each]]

    def _batches(self, run: Run, leg: int) -> Iterator[Batch]:
        """Yields a few of the batches of a leg, however many it has."""
        first, last = (
            self._ledger.batches.list(run.id, leg=leg, limit=1),
            self._ledger.batches.last_seq(run.id),
        )
        after = first[0].seq - 1 if first else last
        step = max(1, (last - after) // BATCHES)
        while page := self._ledger.batches.list(run.id, leg=leg, after=after, limit=1):
            yield page[0]
            after = max(after + step, page[0].seq)


def _following(run: Run, stage: Stage, looked: GateLook) -> StageState:
    """Returns the state after a look at the gate."""
    approval = S.APPROVAL if run.stages and run.stages.approve else S.PASSED
    if stage.state is S.REFUSED:  # it runs again: a person has seen why it paused, and let it go on
        return approval
    if looked.why_not:
        return S.REFUSED
    return S.HOLDING if stage.state is S.OPEN and run.stages and run.stages.hold else approval
