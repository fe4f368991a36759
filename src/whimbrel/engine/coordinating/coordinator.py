"""The coordinator: plans ahead, folds settled batches, opens the next phase, finishes, pauses, cancels.

It keeps nothing in memory that matters, and decides from the ledger alone, by conditional updates: it may die at any
point, or run twice, without harm. A tick attends to each run for a short while, and to as many runs as there is time for; the others
come first in the next tick.
"""

import contextlib
import time
from collections.abc import Callable, Sequence

import structlog

from whimbrel.domain.failures.retry_policy import IN_A_TICK
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, BatchStatus, RunStatus
from whimbrel.domain.runs.tiling import Tiling, fault_of
from whimbrel.domain.runs.workers import WORKERS_SEEN
from whimbrel.engine.coordinating.cancelled_runs import settle_cancelled
from whimbrel.engine.coordinating.failure_watch import FailureWatch
from whimbrel.engine.coordinating.fold_counts import check_rows, fold, folded
from whimbrel.engine.coordinating.following import Following
from whimbrel.engine.coordinating.held_runs import HeldRuns, free_fields
from whimbrel.engine.coordinating.planner import Planner
from whimbrel.engine.coordinating.progress_samples import ProgressSampling
from whimbrel.engine.coordinating.series_writing import SeriesWriting
from whimbrel.engine.coordinating.stage_gates import StageGates, stage_message
from whimbrel.engine.kinds.all_kinds import kind_of
from whimbrel.engine.kinds.kind import FinishingContext
from whimbrel.engine.operating import control
from whimbrel.engine.operating.start import estimate
from whimbrel.engine.operating.unserved_runs import UnservedRuns
from whimbrel.engine.planning.tiling import check_more
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.engine.repeated_errors import RepeatedErrors, pause_message
from whimbrel.engine.verifying.background_report import BackgroundReports
from whimbrel.errors import LedgerIncomplete, RunUnknown, StateForbids, WhimbrelError
from whimbrel.ports import Documents, Session, Store
from whimbrel.ports.ledger import CONSUMERS

log = structlog.get_logger("whimbrel.coordinator")

ATTENDED = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.CANCELLING)
SUSPENDED = "Waits: somebody has stopped all consumers."
STEP_DOWN_SECONDS = 2.0  # in which others may coordinate, after this process could not reach the broker
RETRY_SECONDS = IN_A_TICK.first  # until a run that met an error is attended to again
TICK_SECONDS = 2.0  # that attending to all runs may take; exceeded by at most one run's share
TILING_SECONDS = 0.2  # that looking at ranges, and waiting for proofs, may take of a tick


class Coordinator:
    """One process's candidate for the role of coordinator of every run."""

    def __init__(
        self,
        store: Store,
        announcer: Announcer,
        *,
        name: str,
        role_seconds: float,
        step: Step,
        watched: bool = False,
        on_ended: Callable[[Run], None] = lambda _: None,
    ) -> None:
        """`watched`: runs obey the database's health, and say so. `on_ended`: called with a run that this process has ended."""
        self._store, self._announcer, self._name, self._step = store, announcer, name, step
        self._role_seconds = role_seconds
        self._roles: dict[str, float] = {}  # run -> when its role was last asked for
        self._steps_down_until = 0.0
        self._on_ended = on_ended
        self._suspended = ""  # the message of running runs while somebody has stopped all consumers
        self._ledger = store.ledger
        self._held = HeldRuns(store.ledger, watched=watched)
        self._session: Session = store.session()
        self._following = Following(store.ledger, store.changes)
        self._planner = Planner(store.ledger, announcer, step, self._following)
        self._gates = StageGates(store.ledger, name=name, step=step)
        self._prover = BackgroundReports(store)
        self._measuring = ProgressSampling(store.ledger)
        self._series = SeriesWriting(store.ledger)
        self._failures = FailureWatch(store.ledger, name)
        self._repeated_errors = RepeatedErrors()
        self._retry_times: dict[str, float] = {}  # run -> when to attend to it again
        self._untold: dict[str, str] = {}  # cancelled run -> why what its batches have done is unknown
        self._postponed: Sequence[str] = ()  # runs for which there was no time
        self._serving = UnservedRuns(store.ledger)
        self._handlers: dict[RunStatus, Callable[[Run], None]] = {
            RunStatus.QUEUED: self._begin,
            RunStatus.RUNNING: self._advance,
            RunStatus.PAUSING: self._pause,
            RunStatus.CANCELLING: self._cancel,
        }

    def tick(self) -> None:
        """Attends to runs that are at work or may begin and that nobody else attends to, oldest first.

        Runs that wait behind another cost nothing, however many they are. Raises what the ledger itself raises.
        """
        if time.monotonic() < self._steps_down_until:
            return
        if self._announcer.stuck(self._role_seconds):
            self._ledger.leases.step_down(self._name, role="coordinator:")
            self._roles = {}
            self._steps_down_until = time.monotonic() + min(STEP_DOWN_SECONDS, self._role_seconds / 2)
            return
        at_work = self._ledger.runs.at_work()
        attended = dict.fromkeys([run.id for run in at_work])
        attended |= dict.fromkeys(self._ledger.runs.in_line())
        self._forget_other_runs(attended)
        self._serving.keep(set(attended))
        if attended:
            self._suspended = SUSPENDED if self._ledger.leases.is_off(CONSUMERS) else ""
            self._held.admit([run for run in at_work if run.status is RunStatus.RUNNING])
        end = time.monotonic() + TICK_SECONDS
        turns = list(dict.fromkeys([run for run in self._postponed if run in attended]) | attended)
        for position, run_id in enumerate(turns):
            if position and time.monotonic() > end:
                self._postponed = turns[position:]
                return
            if self._holds_role(run_id):
                self._attend_alone(run_id)
        self._postponed = ()

    def _forget_other_runs(self, runs: dict[str, None]) -> None:
        """Forgets what is remembered of other runs."""
        now = time.monotonic()
        self._roles = {run: asked for run, asked in self._roles.items() if now - asked < self._role_seconds}
        self._retry_times = {run: due for run, due in self._retry_times.items() if run in runs and due > now}
        self._untold = {run: why for run, why in self._untold.items() if run in runs}
        for memory in (
            self._planner, self._prover, self._announcer, self._repeated_errors, self._measuring, self._held, self._failures,
            self._series,
        ):  # fmt: skip
            memory.keep(runs)

    def _holds_role(self, run_id: str) -> bool:
        """Returns whether this process holds the role, which it asks for again only when half of it is over."""
        now = time.monotonic()
        if now - self._roles.get(run_id, -self._role_seconds) < self._role_seconds / 2:
            return True
        if not self._ledger.leases.lead(f"coordinator:{run_id}", self._name, self._role_seconds):
            return False
        self._roles[run_id] = now
        return True

    # errors of one run

    def _attend_alone(self, run_id: str) -> None:
        """Attends to a run whose errors must not affect the others: it is tried again, and without progress it is paused."""
        if run_id in self._retry_times:
            return
        try:
            self._attend(run_id)
        except Exception as error:  # of any class
            if not isinstance(error, WhimbrelError):
                log.exception("attending to a run broke", run=run_id)
            self._handle_error(run_id, error)
        else:
            if not self._prover.is_computing(run_id):
                self._repeated_errors.forget(run_id)

    def _handle_error(self, run_id: str, error: Exception) -> None:
        """Counts an error, but only while the ledger answers: otherwise all runs have it, and none of them can be paused."""
        run = self._ledger.runs.get(run_id)
        if run is None or run.status in ENDED:
            return
        progress = (run.status, run.leg, run.folded_through, run.tiling.through, run.checked.through)
        why = self._repeated_errors.record(run_id, error, (*progress, self._ledger.batches.last_seq(run_id)))
        if not why:
            self._retry_times[run_id] = time.monotonic() + RETRY_SECONDS
            log.warning("a run is attended to again", run=run_id, reason=pause_message(error))
            self._set_message(run, f"Tried again: {pause_message(error)}")
        elif run.status is RunStatus.CANCELLING:
            self._untold[run_id] = why
        else:
            self._pause_run(run_id, why)

    def _set_message(self, run: Run, message: str) -> None:
        if run.status in (RunStatus.QUEUED, RunStatus.RUNNING) and run.message != message:
            self._ledger.runs.describe(run.id, message=message)

    def _pause_run(self, run_id: str, why: str) -> None:
        with contextlib.suppress(StateForbids, RunUnknown):  # it is stopping already, or is gone
            control.pause(self._ledger, run_id, who=self._name, why=why)

    # the course of a run

    def _attend(self, run_id: str) -> None:
        """Lets phases without documents follow one another at once, not a tick apart."""
        before: tuple[RunStatus, int] | None = None
        while run := self._ledger.runs.get(run_id):
            if before is not None and run.status in ENDED:
                self._on_ended(run)
            if (run.status, run.leg) == before or run.status not in ATTENDED:
                return
            before = run.status, run.leg
            self._handlers[run.status](run)

    def _begin(self, run: Run) -> None:
        if self._ledger.runs.holder(run.ns) not in (None, run.id):
            return  # it waits, and will be in line when that run has ended
        self._session.documents(run).check_identity()
        fields = {
            "estimated": run.estimated or estimate(self._store, run),
            "message": "",
            "error": None,
            "allowance": None,
            "rowsUuid": run.rows or self._ledger.batches.uuid(),
        }
        if run.tiling.fault is not None:  # it failed because of it, and was resumed: all is checked again
            self._ledger.runs.keep_tiling(run.id, tiling=Tiling())
        if self._ledger.runs.move(
            run.id, RunStatus.RUNNING, seen=RunStatus.QUEUED, who=self._name, fields=fields
        ):
            self._announcer.announce_all(run)

    def _advance(self, run: Run) -> None:
        check_rows(self._ledger, run)
        run = fold(self._ledger, run, self._step)
        allowance = self._held.of(run)
        self._announcer.pass_over(run.id, asleep=allowance.gives_back)
        if allowance.share > 0.0:
            self._measuring.sample(run)
        if self._failures.over_budget(run):
            return
        self._announcer.repair(run)
        if self._announcer.pause_reason and not self._ledger.batches.count(
            run.id, [BatchStatus.RUNNING], most=1
        ):
            why, self._announcer.pause_reason = self._announcer.pause_reason, ""
            self._pause_run(run.id, why)
            return
        slots = self._ledger.leases.slots(WORKERS_SEEN)
        if run.allowance.gives_back and not allowance.gives_back:
            self._announcer.announce_all(run)  # before the row says so: the next coordinator would not know
        other = self._announcer.trouble or self._suspended or self._serving.reason(run) or stage_message(run)
        self._held.tell(run, allowance, other)
        self._series.write(run, self._measuring.last(run.id), allowance, other)
        if allowance.gives_back:
            return  # planning reads too
        documents = self._session.documents(run)
        documents.check_identity()
        if not self._planner.plan(run, documents, slots=slots):
            return
        leg, run = run.leg, fold(self._ledger, run, self._step)
        # Another leg: another process has opened the next phase, of which nothing was judged here (hole H81).
        if (
            run.leg != leg
            or not folded(self._ledger, run)
            or self._failures.over_budget(run, phase_ends=True)
            or not self._gates.is_open(run, documents)
        ):
            return
        if run.leg + 1 < len(run.legs):
            self._step("S11")
            self._following.open_next_phase(run)
        else:
            self._finish(run, documents)

    def _finish(self, run: Run, documents: Documents) -> None:
        """S12: checks what the run claims at its end instead of assuming it (hole H6)."""
        last = self._ledger.batches.last_seq(run.id)
        tiling = check_more(self._ledger, run.id, run.tiling, through=last, seconds=TILING_SECONDS)
        if tiling != run.tiling:
            self._ledger.runs.keep_tiling(run.id, tiling=tiling)
        if tiling.fault is None and tiling.through < last:
            return  # the next tick continues: other runs wait
        gap = fault_of(tiling, run.legs)
        if gap is not None:
            error = f"The ranges of batches do not tile the collection at {run.id}.{gap.seq}. Nothing was lost, but the run is not complete."
            fields = {"error": error}
            self._ledger.runs.move(
                run.id, RunStatus.FAILED, seen=RunStatus.RUNNING, who=self._name, why=error, fields=fields
            )
            return
        ended = kind_of(run).finish(
            FinishingContext(
                run=run, documents=documents, ledger=self._ledger, prover=self._prover, seconds=TILING_SECONDS
            )
        )
        if ended is None:
            return  # the next tick continues: other runs wait
        if run.phase == "failed" and self._ledger.failures.any_open(run.id):
            return  # somebody has opened failures again since the phase was judged
        documents.check_identity()
        target = RunStatus.COMPLETED_WITH_FAILURES if ended.faults else RunStatus.COMPLETED
        self._step("S12")
        self._ledger.runs.move(run.id, target, who=self._name, fields={"message": ended.message})

    def _pause(self, run: Run) -> None:
        if not self._ledger.batches.count(run.id, [BatchStatus.RUNNING], most=1):
            with contextlib.suppress(LedgerIncomplete):  # that is why it pauses
                fold(self._ledger, run, self._step)
            target = RunStatus.FAILED if run.failing else RunStatus.PAUSED
            why = (run.error or "") if run.failing else ""
            self._ledger.runs.move(
                run.id, target, seen=RunStatus.PAUSING, who=self._name, why=why, fields=free_fields()
            )

    def _cancel(self, run: Run) -> None:
        """Cancels the run once nobody holds a batch any more: what was touched is settled by evidence, a little in each tick."""
        if self._ledger.batches.count(run.id, [BatchStatus.RUNNING], most=1):
            return
        documents = self._session.documents(run)
        settle_cancelled(self._ledger, documents, run, untold=run.id in self._untold)
        if self._ledger.batches.count(run.id, [BatchStatus.QUEUED, BatchStatus.RUNNING], most=1):
            return  # the next tick continues; or a worker that did not know yet has claimed a batch, and will give it back untouched
        before, why = run.folded_through, self._untold.get(run.id)
        try:
            run = fold(self._ledger, run, self._step)
        except LedgerIncomplete as error:
            why = str(error)
        if not why and run.folded_through > before and not folded(self._ledger, run):
            return
        fields = free_fields()
        if why:
            fields["error"] = f"It is not known what its last batches have done: {why}"
        self._ledger.runs.move(run.id, RunStatus.CANCELLED, who=self._name, fields=fields)
