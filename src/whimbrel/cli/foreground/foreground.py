"""Works on one run in the foreground, for `run`, `resume`, `retry` and `demo`."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from whimbrel.bootstrap import Opened
from whimbrel.cli.foreground.interrupts import INTERRUPTED, Interrupts
from whimbrel.cli.foreground.leave_or_pause import LeaveOrPause
from whimbrel.cli.output.ledger_observer import LedgerObserver
from whimbrel.cli.output.progress_bar import Progress, moment, progress
from whimbrel.cli.output.screen import Pipe, Screen
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.engine.operating.following_runs import note_for_others
from whimbrel.engine.operating.run_view import RunView, view
from whimbrel.engine.operating.unserved_runs import refusals
from whimbrel.errors import DefinitionInvalid, Systemic, Transient, WhimbrelError
from whimbrel.ports import Ledger
from whimbrel.settings import Settings
from whimbrel.workers.child_process import ChildProcess
from whimbrel.workers.parent_process import ParentProcess
from whimbrel.workers.supervisor import Supervisor
from whimbrel.workers.worker_pool import WorkerPool

FRAME = 0.1  # seconds between two updates of the display
SETTLING = 1.0  # seconds for the coordinator to note that killed workers have stopped
BREAKING = 5.0  # seconds for the run to be paused when the work on it broke
EXIT_CODES = {
    RunStatus.COMPLETED: 0,
    RunStatus.COMPLETED_WITH_FAILURES: 2,
    RunStatus.FAILED: 3,
    RunStatus.CANCELLED: 4,
}


CHANGED_SINCE = 5  # exit code of a verification that found no fault, but later changes by others


def exit_code_of(run: Run) -> int:
    """Returns the exit code of a command that has worked on a run to its end."""
    code = EXIT_CODES[run.status]
    return CHANGED_SINCE if not code and any(proof.since for proof in run.report) else code


@dataclass(frozen=True, slots=True)
class RunEnding:
    """How the work in the foreground ended, and the run as last seen."""

    view: RunView
    exit_code: int
    said: str = ""  # what the person who interrupted it must know


@dataclass(frozen=True, slots=True)
class StartedWorkers:
    """What was started before there was a run."""

    pipe: Pipe  # for what child processes write
    child: ChildProcess | None


@contextlib.contextmanager
def start_workers_ahead(screen: Screen, settings: Settings, pool: WorkerPool) -> Iterator[StartedWorkers]:
    """Starts what any work needs, before anything else in this process: see `whimbrel.workers.process_start`."""
    with screen.pipe() as pipe, pool.ahead(settings, pipe.number) as child:
        yield StartedWorkers(pipe, child)


class Foreground:
    """One command's work on one run."""

    def __init__(self, opened: Opened, settings: Settings, screen: Screen, interrupts: Interrupts) -> None:
        self._opened, self._settings = opened, settings
        self._screen, self._interrupts = screen, interrupts
        self._ledger: Ledger = opened.store.ledger

    def arm(self) -> None:
        """From now on `work` handles Ctrl-C. Call this before a run is made, so that the user is told about it."""
        self._interrupts.arm()

    def work(
        self, run: Run, definition: Definition, pool: WorkerPool, started: StartedWorkers | None = None
    ) -> RunEnding:
        """Works until the run has ended, or a person ends the work. Raises what broke the work."""
        with contextlib.ExitStack() as stack:
            started = started or StartedWorkers(stack.enter_context(self._screen.pipe()), None)
            started.pipe.forward()
            supervisor = pool.supervisor(
                self._opened,
                self._settings,
                run=run.id,
                longest_call=definition.timeout,
                stderr=started.pipe.number,
            )
            if started.child is not None:
                supervisor.adopt(started.child)
            display = stack.enter_context(progress(self._screen))
            self._interrupts.arm()
            parent = stack.enter_context(ParentProcess(self._opened.store, self._settings, supervisor))
            stack.callback(supervisor.kill)  # no process is left when all went well
            observer = stack.enter_context(LedgerObserver(lambda: look(self._ledger, run.id)))
            try:
                ending = self._watch(run.id, parent, supervisor, observer, display)
            except WhimbrelError as error:
                self._screen.say(
                    LeaveOrPause(self._ledger, run.id, supervisor, why=str(error)).within(BREAKING)
                )
                raise
            if supervisor.replaced:
                self._screen.note(
                    f"{supervisor.replaced} worker processes were replaced, for they held more memory than --max-memory allows. "
                    "The function, or what it calls, keeps what it no longer needs."
                )
            if ending.view.run.status in ENDED:
                # The workers may be at work on other runs.
                supervisor.drain(30 if self._settings.rabbitmq_url else 10)
            return ending

    def _watch(
        self,
        run_id: str,
        parent: ParentProcess,
        supervisor: Supervisor,
        observer: LedgerObserver[tuple[RunView, str]],
        display: Progress,
    ) -> RunEnding:
        leaving: LeaveOrPause | None = None
        while True:
            _check(parent, observer)
            run_view, note = observer.latest
            if run_view.run.status is RunStatus.RUNNING and run_view.run.said_otherwise and leaving is None:
                with contextlib.suppress(Transient):  # the observer reports it if it lasts
                    self._check_served(run_view.run, supervisor)
            display.show(moment(run_view, observer.silent, note))
            if run_view.run.status in ENDED:
                return RunEnding(run_view, exit_code_of(run_view.run))
            if self._interrupts.count > 1:
                return _kill(run_id, supervisor, observer)
            if leaving is not None and leaving.over:
                return RunEnding(_latest_view(self._ledger, run_view), INTERRUPTED, leaving.said)
            if leaving is None and self._interrupts.count:
                self._screen.say(
                    "Stopping within a chunk. Once more stops at once; nothing is lost either way."
                )
                leaving = LeaveOrPause(self._ledger, run_id, supervisor)
            if leaving is None:
                _check_not_self_paused(run_view.run)
            observer.wait(FRAME)

    def _check_served(self, run: Run, supervisor: Supervisor) -> None:
        """Raises DefinitionInvalid where neither this command's own workers nor others take batches of the run."""
        own_workers = [
            worker
            for worker in self._ledger.leases.workers(ALIVE)
            if worker.name.startswith(supervisor.prefix)
        ]
        refusing = own_workers and all(
            any(refusal.run == run.id for refusal in worker.refuses) for worker in own_workers
        )
        if refusing and not self._ledger.leases.slots(ALIVE, run=run):
            why = "; ".join(dict.fromkeys(refusals(own_workers, run)))
            raise DefinitionInvalid(
                f"The workers that this command has started do not serve run {run.id}: {why}. The code must be the same in every process "
                "that loads it: once it is, go on."
            )


def _kill(run_id: str, supervisor: Supervisor, observer: LedgerObserver[tuple[RunView, str]]) -> RunEnding:
    killed = supervisor.kill()
    end = time.monotonic() + SETTLING
    while time.monotonic() < end and observer.latest[0].run.status is RunStatus.PAUSING:
        time.sleep(FRAME)
    message = f"Stopped at once: {killed} workers were killed. Nothing is lost. Go on with: whimbrel resume {run_id}"
    return RunEnding(observer.latest[0], INTERRUPTED, message)


def look(ledger: Ledger, run_id: str) -> tuple[RunView, str]:
    """Returns a run as it is now, and why it waits."""
    run = ledger.runs.get(run_id)
    if run is None:
        raise Systemic(f"Run {run_id} is gone: somebody has removed it from the ledger while it was at work.")
    note = _waits_for(ledger, run) if run.status is RunStatus.QUEUED else ""
    run_view = view(ledger, run)
    return run_view, note or (run_view.run.message if run.status is RunStatus.RUNNING else "")


def _waits_for(ledger: Ledger, run: Run) -> str:
    """Tells which run a queued one waits for, and what to do if that never ends."""
    holder = ledger.runs.holder(run.ns)
    other = ledger.runs.get(holder) if holder and holder != run.id else None
    if other is None:
        return ""
    state = f"waits for run {other.id}, which has {run.ns} and is {other.status}"
    if other.status is RunStatus.PAUSED:
        return f"{state}: whimbrel resume {other.id}, or cancel it"
    unserved = not ledger.leases.slots(ALIVE, run=other)
    if unserved:
        return f"{state}, but has no workers: whimbrel resume {other.id}"
    note = note_for_others(other)
    return f"{state}.{note}" if note else state


def _check(parent: ParentProcess, observer: LedgerObserver[tuple[RunView, str]]) -> None:
    if parent.broken is not None:
        raise parent.broken
    observer.check()


def _check_not_self_paused(run: Run) -> None:
    """Raises where a run paused itself and needs a person; one that a person paused is waited for."""
    if run.status is RunStatus.PAUSED and run.error:
        raise Systemic(f"Run {run.id} paused itself, as a person must look first: {run.error}")


def _latest_view(ledger: Ledger, run_view: RunView) -> RunView:
    """Reads the run once more, where MongoDB answers."""
    with contextlib.suppress(Transient):
        return look(ledger, run_view.run.id)[0]
    return run_view
