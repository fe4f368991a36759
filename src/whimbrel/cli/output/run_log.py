"""Reports runs for `serve` and `worker`: starts and ends, what delays them, and rates; each once in a process."""

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from whimbrel.cli.output.ledger_observer import internal_fault
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.health.verdict import SLOWER
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.run_view import run_object, view
from whimbrel.errors import Transient, WhimbrelError
from whimbrel.ports import Ledger

NEWEST = 100  # runs that are watched, besides those at work
AT_REST = ENDED | {RunStatus.QUEUED, RunStatus.PAUSED}
EVERY = 0.5  # seconds between two reads


@dataclass(frozen=True, slots=True)
class SeenRun:
    """What was last reported of a run."""

    status: RunStatus
    rate: int | None
    waits: str  # why it does not go on, or is slower
    why: tuple[object, ...]  # the same, without what changes every few seconds


class RunLog:
    """Remembers what this process has reported. Runs that ended before are not reported."""

    def __init__(self, screen: Screen, ledger: Ledger) -> None:
        self._screen, self._ledger = screen, ledger
        self._known: dict[str, SeenRun] = {}
        self._known |= {run.id: _seen_run(run) for run in self.look() if run.status in ENDED}

    def look(self) -> list[Run]:
        """Returns the newest runs, and all that are at work, or were at the last read, however many newer ones wait."""
        return runs_to_report(self._ledger, [(name, seen.status) for name, seen in list(self._known.items())])

    def tell(self, latest: Sequence[Run]) -> None:
        """Reports what is new of these runs, and forgets all others."""
        for run in reversed(latest):
            before, now = self._known.get(run.id), _seen_run(run)
            self._known[run.id] = now
            if before is None or before.status is not now.status:
                self._report_status(run, before)
            elif before.rate != now.rate and now.status is RunStatus.RUNNING:
                self._say(
                    run,
                    "run throttled" if now.rate else "run not throttled",
                    _rate(run) or "has no rate any more",
                )
            if now.why != (before.why if before else ()):
                if now.waits.startswith(SLOWER):
                    self._say(run, "run slower", f"{now.waits[0].lower()}{now.waits[1:]}", reason=now.waits)
                elif now.waits:
                    self._say(run, "run waits", f"does not go on: {now.waits}", reason=now.waits)
                elif now.status is RunStatus.RUNNING:
                    self._say(run, "run goes on", "goes on")
        for forgotten in self._known.keys() - {run.id for run in latest}:
            del self._known[forgotten]

    def _report_status(self, run: Run, before: SeenRun | None) -> None:
        unseen = run.started_at is not None and (before is None or before.status is RunStatus.QUEUED)
        if unseen and run.started_at is not None and run.status in ENDED:  # it ran between two reads
            began = run.started_at.astimezone().strftime("%H:%M:%S")
            self._say(run, "run running", f"began at {began}", status=RunStatus.RUNNING)
        if self._screen.json:
            with contextlib.suppress(Transient):
                self._screen.answer(run_object(view(self._ledger, run)), indent=None)
        why = run.error or ("" if run.status is RunStatus.RUNNING else run.message)
        rate = f", {_rate(run)}" if run.status is RunStatus.RUNNING and run.rate else ""
        self._say(run, f"run {run.status}", f"is {run.status}{rate}{f': {why}' if why else ''}", reason=why)

    def _say(
        self, run: Run, event: str, text: str, *, reason: str = "", status: RunStatus | None = None
    ) -> None:
        self._screen.report(
            f"{time.strftime('%H:%M:%S')} run {run.id} of {run.migration} {text}",
            event, run=run.id, migration=run.migration, collection=run.ns, status=str(status or run.status), rate=run.rate,
            reason=reason,
        )  # fmt: skip


def _seen_run(run: Run) -> SeenRun:
    waits = run.message if run.status is RunStatus.RUNNING else ""
    why: tuple[object, ...] = () if not waits else (waits,) if run.said_otherwise else run.allowance.news
    return SeenRun(run.status, run.rate, waits, why)


def _rate(run: Run) -> str:
    return f"may evaluate {run.rate:,} documents a second" if run.rate else ""


def runs_to_report(ledger: Ledger, known: Sequence[tuple[str, RunStatus]]) -> list[Run]:
    """Returns the newest runs, and all that are at work, or were at the last read, however many newer ones wait."""
    newest = ledger.runs.list(limit=NEWEST)
    at_work = {name for name, status in known if status not in AT_REST}
    older = (at_work | {run.id for run in ledger.runs.at_work()}) - {run.id for run in newest}
    return newest + [
        run for name in sorted(older, reverse=True) if (run := ledger.runs.get(name)) is not None
    ]


class RunLogger:
    """Reports from a thread of its own while it is entered. `ledger`: returns None while there is none."""

    def __init__(self, screen: Screen, ledger: Callable[[], Ledger | None]) -> None:
        self._screen, self._ledger = screen, ledger
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="telling", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(2)

    def _repeat(self) -> None:
        run_log: RunLog | None = None
        fault: WhimbrelError | None = None
        while not self._over.wait(EVERY):
            try:
                if (ledger := self._ledger()) is not None:
                    run_log = run_log or RunLog(self._screen, ledger)
                    run_log.tell(run_log.look())
            except WhimbrelError:
                pass  # the code that works with the ledger reports it
            except Exception as error:  # noqa: BLE001  logged below
                # The server goes on, and reports what it can.
                fault = internal_fault("telling of runs broke", error, fault)
