"""The coordinator: plans ahead, folds what is settled, opens the next phase, finishes, pauses, cancels.

It keeps nothing in memory and decides from the ledger alone, by conditional updates: it may die at any
point, or be there twice, without harm.
"""

import contextlib
import time
from collections.abc import Callable, Sequence

from whimbrel.domain.batches import Outline, Range
from whimbrel.domain.runs import Counts, Run, eligible
from whimbrel.domain.states import BatchStatus, RunStatus
from whimbrel.domain.tiling import Tiling, fault_of
from whimbrel.engine import control
from whimbrel.engine.announce import Announcer
from whimbrel.engine.loading import loading
from whimbrel.engine.plan import Planner
from whimbrel.engine.proving import Prover
from whimbrel.engine.settling import evidence
from whimbrel.engine.start import estimate
from whimbrel.engine.steps import Step
from whimbrel.engine.tiling import PAGE, look_on
from whimbrel.errors import FilterRefused, Refused, RunUnknown, StateForbids, Systemic, TooSlow
from whimbrel.ports import Session, Store
from whimbrel.ports.ledger import CONSUMERS

ATTENDED = (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.CANCELLING)
WORKERS_SEEN = 10.0  # seconds within which a worker must have said that it is alive
STOPPED = "Waits: somebody has stopped all consumers."
RESTING = 2.0  # seconds in which others may coordinate, after this process could not reach the broker
PATIENCE = 10  # times that what planning asks may take too long
NEWER = 1000  # documents behind the last range that the end of a run looks at
FEW = 50  # batches that a tick looks at first: more where all of them are settled
FOLDING_SECONDS = 0.2  # that folding one run may take of a tick
TILING_SECONDS = 0.2  # that looking at ranges, and waiting for proofs, may
SETTLED = (BatchStatus.DONE, BatchStatus.CANCELLED)


class Coordinator:
    """One process's candidate for the coordinator of every run."""

    def __init__(
        self, store: Store, announcer: Announcer, *, name: str, role_seconds: float, step: Step
    ) -> None:
        self._store, self._announcer, self._name, self._step = store, announcer, name, step
        self._role_seconds = role_seconds
        self._led: dict[str, float] = {}  # run -> when its role was last asked for
        self._rests_until = 0.0
        self._stopped = ""  # what is said of running runs while somebody has stopped all consumers
        self._ledger = store.ledger
        self._session: Session = store.session()
        self._planner = Planner(store.ledger, announcer, step)
        self._slow: dict[
            str, int
        ] = {}  # run -> how often in a row MongoDB took too long for what planning asks
        self._prover = Prover(store)
        self._handlers: dict[RunStatus, Callable[[Run], None]] = {
            RunStatus.QUEUED: self._begin,
            RunStatus.RUNNING: self._advance,
            RunStatus.PAUSING: self._pause,
            RunStatus.CANCELLING: self._cancel,
        }

    def tick(self) -> None:
        """Attend to every run that is at work or may begin, and that nobody else attends to, oldest first.

        Runs that wait behind another cost nothing, however many they are.
        """
        if time.monotonic() < self._rests_until:
            return
        if self._announcer.stuck(self._role_seconds):
            self._ledger.leases.step_down(self._name, role="coordinator:")
            self._led, self._rests_until = {}, time.monotonic() + min(RESTING, self._role_seconds / 2)
            return
        attended = [run.id for run in self._ledger.runs.at_work()] + list(self._ledger.runs.in_line())
        self._planner.keep(set(attended))
        if attended:
            self._stopped = STOPPED if self._ledger.leases.off(CONSUMERS) else ""
        for run_id in attended:
            if not self._leads(run_id):
                continue
            self._attend_alone(run_id)

    def _attend_alone(self, run_id: str) -> None:
        """This run's trouble is not that of the others: it pauses. What is too slow may be faster next time, a few times."""
        try:
            self._attend(run_id)
            self._slow.pop(run_id, None)
        except TooSlow as error:
            self._slow[run_id] = self._slow.get(run_id, 0) + 1
            if self._slow[run_id] >= PATIENCE:
                self._stop(run_id, f"{PATIENCE} times in a row, and in as small a part as there is: {error}")
        except (Systemic, Refused, FilterRefused, RunUnknown) as error:
            self._stop(run_id, str(error))

    def _stop(self, run_id: str, why: str) -> None:
        with contextlib.suppress(StateForbids, RunUnknown):  # it stops already, or is gone
            control.pause(self._ledger, run_id, who=self._name, why=why)

    def _leads(self, run_id: str) -> bool:
        """Hold the role, asking again only when half of it is over."""
        now = time.monotonic()
        if now - self._led.get(run_id, -self._role_seconds) < self._role_seconds / 2:
            return True
        if not self._ledger.leases.lead(f"coordinator:{run_id}", self._name, self._role_seconds):
            return False
        self._led = {each: at for each, at in self._led.items() if now - at < self._role_seconds} | {
            run_id: now
        }
        return True

    def _attend(self, run_id: str) -> None:
        """Phases without documents follow one another at once, not a tick apart."""
        before: tuple[RunStatus, int] | None = None
        while run := self._ledger.runs.get(run_id):
            if (run.status, run.leg) == before or run.status not in ATTENDED:
                return
            before = run.status, run.leg
            self._handlers[run.status](run)

    def _begin(self, run: Run) -> None:
        if self._ledger.runs.holder(run.ns) not in (None, run.id):
            return  # it waits, and will be in line when that one is over
        fields = {"estimated": run.estimated or estimate(self._store, run), "message": "", "error": None}
        if run.tiling.fault is not None:  # it failed by that, and was resumed: all is looked at again
            self._ledger.runs.keep_tiling(run.id, tiling=Tiling())
        if self._ledger.runs.move(
            run.id, RunStatus.RUNNING, seen=RunStatus.QUEUED, who=self._name, fields=fields
        ):
            self._announcer.everything(run)

    def _advance(self, run: Run) -> None:
        run = self._fold(run)
        self._announcer.repair(run)
        slots = self._ledger.leases.slots(WORKERS_SEEN)
        message = self._announcer.trouble or self._stopped or ("" if slots else loading(self._ledger))
        if run.message != message:
            self._ledger.runs.describe(run.id, message=message)
        documents = self._session.documents(run)
        if not self._planner.plan(run, documents, slots=slots):
            return
        run = self._fold(run)
        if not self._folded(run):
            return
        if run.leg + 1 < len(run.legs):
            self._step("S11")
            self._ledger.runs.next_leg(run)
        else:
            self._finish(run)

    def _fold(self, run: Run) -> Run:
        """S10: the contiguous prefix of settled batches, in one conditional update a page."""
        end, limit = time.monotonic() + FOLDING_SECONDS, FEW
        while time.monotonic() < end:
            page = self._ledger.batches.outlines(run.id, after=run.folded_through, limit=limit)
            settled = _prefix(page, run.folded_through)
            if settled:
                self._step("S10")
                run = self._add_up(run, settled)
            if not settled or len(settled) < limit:
                break
            limit = PAGE
        return run

    def _add_up(self, run: Run, settled: Sequence[Outline]) -> Run:
        counts = sum((each.counts for each in settled), Counts())
        inferred = any(each.inferred for each in settled)
        self._ledger.runs.fold(run, counts, settled[-1].seq, inferred=inferred)
        return self._ledger.runs.get(run.id) or run

    def _folded(self, run: Run) -> bool:
        return run.folded_through >= self._ledger.batches.last_seq(run.id)

    def _finish(self, run: Run) -> None:
        """S12: what the run claims at its end is checked, not assumed (hole H6)."""
        last = self._ledger.batches.last_seq(run.id)
        tiling = look_on(self._ledger, run.id, run.tiling, through=last, seconds=TILING_SECONDS)
        if tiling != run.tiling:
            self._ledger.runs.keep_tiling(run.id, tiling=tiling)
        if tiling.fault is None and tiling.through < last:
            return  # the rest in the next tick: other runs wait
        gap = fault_of(tiling, run.legs)
        if gap is not None:
            error = f"The ranges of batches do not tile the collection at {run.id}.{gap.seq}. Nothing was lost, but the run is not complete."
            self._ledger.runs.move(
                run.id,
                RunStatus.FAILED,
                seen=RunStatus.RUNNING,
                who=self._name,
                why=error,
                fields={"error": error},
            )
            return
        if run.kind == "verification":
            proved = self._prover.found(run, TILING_SECONDS)
            if proved is None:
                return  # it goes on in the next tick: other runs wait
            faults, message = proved
        else:
            self._ledger.failures.add_up(run.id)
            unresolved = self._ledger.failures.counts(run.id)
            faults, message = unresolved["dead"] + unresolved["open"] > 0, self._left(run)
        target = RunStatus.COMPLETED_WITH_FAILURES if faults else RunStatus.COMPLETED
        self._step("S12")
        self._ledger.runs.move(run.id, target, who=self._name, fields={"message": message})

    def _left(self, run: Run) -> str:
        if run.kind == "rollback":
            conflicts = self._ledger.failures.counts(run.id)["conflict"]
            kept = (
                f" Changed since by the application, and left as they are: {conflicts:,}."
                if conflicts
                else ""
            )
            return f"Documents that are as they were before run {run.of}: {run.counts.changed:,}.{kept}"
        if run.kind == "cleanup":
            return f"Nothing of run {run.of} is left in the documents: it cannot be rolled back any more."
        if run.scope.kind == "ids":
            return f"The {run.scope.limit} documents named were evaluated."
        if not run.scope.swept:
            return f"The first {run.scope.limit} eligible documents were evaluated; others may be left."
        if "sweep" not in run.legs:
            return f"All documents of the phase {run.legs[0]} were evaluated."
        newer = self._newer(run)
        if newer:
            more = "at least " if newer == NEWER else ""
            return f"{more}{newer} documents became eligible after the sweep had begun.".capitalize()
        unresolved = self._ledger.failures.counts(run.id)
        passed = run.counts.unchanged + run.counts.skipped if run.marking.path is None else 0
        if unresolved["dead"] + unresolved["open"] + passed:
            return "Nothing eligible is left but the failures and what was passed over."
        return "Nothing eligible is left."

    def _newer(self, run: Run) -> int:
        """Eligible documents behind the last range of the sweep: those were inserted since. `NEWER` at most."""
        legs = [leg for leg, phase in enumerate(run.legs) if phase in ("sweep", "processing")]
        ends = [end for leg in reversed(legs) if (end := self._ledger.batches.end(run.id, leg)) is not None]
        last = next(iter(ends), None)
        if last is None:
            return 0
        keys = self._session.documents(run).keys(Range(last, None), eligible(run, "pending"), NEWER)
        return len(keys)

    def _pause(self, run: Run) -> None:
        if not self._ledger.batches.count(run.id, [BatchStatus.RUNNING]):
            self._fold(run)
            target = RunStatus.FAILED if run.failing else RunStatus.PAUSED
            why = (run.error or "") if run.failing else ""
            self._ledger.runs.move(run.id, target, seen=RunStatus.PAUSING, who=self._name, why=why)

    def _cancel(self, run: Run) -> None:
        """Only when nobody holds a batch any more: what was touched is settled by evidence."""
        if self._ledger.batches.count(run.id, [BatchStatus.RUNNING]):
            return
        documents = self._session.documents(run)
        for batch in self._ledger.batches.list(run.id, statuses=[BatchStatus.QUEUED]):
            counts, inferred = Counts(), False
            if batch.claims:
                try:
                    counts, inferred = evidence(documents, self._ledger, run, batch)
                except (
                    Refused
                ):  # the filter cannot be evaluated: what was changed stays unknown, and is flagged
                    inferred = True
            self._ledger.batches.cancel(batch, counts, inferred=inferred)
        if self._ledger.batches.count(run.id, [BatchStatus.QUEUED, BatchStatus.RUNNING]):
            return  # a worker that did not know yet has claimed one: it gives it back, untouched
        while (folded := self._fold(run)).folded_through > run.folded_through:
            run = folded
        self._ledger.runs.move(run.id, RunStatus.CANCELLED, who=self._name)


def _prefix(page: Sequence[Outline], through: int) -> Sequence[Outline]:
    """The settled batches that follow one another from this one on."""
    found: list[Outline] = []
    for each in page:
        if each.seq != through + len(found) + 1 or each.status not in SETTLED:
            break
        found.append(each)
    return found
