"""`pause` and `cancel`: stop a run, and wait until it has stopped."""

import time
from collections.abc import Callable
from typing import Annotated

import typer

from whimbrel.bootstrap import Opened
from whimbrel.cli.asking import asked
from whimbrel.cli.choosing import TO_CANCEL, TO_PAUSE, Fit, chosen
from whimbrel.cli.interrupts import Interrupts
from whimbrel.cli.options import Json, RunId, begin, caller
from whimbrel.cli.screen import Screen
from whimbrel.domain.runs import Run
from whimbrel.domain.states import BatchStatus, RunStatus
from whimbrel.engine import control
from whimbrel.engine.view import run_object, view
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Ledger
from whimbrel.settings import Settings
from whimbrel.workers.parent import Parent

STOPPING = 60.0  # seconds to wait: longer than a lease, its grace and a sweep together
DRAINING = (RunStatus.PAUSING, RunStatus.CANCELLING)

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="wait until nobody works on it any more")]


def pause(run_id: RunId = None, wait: Wait = True, json: Json = False) -> int:
    """Stop a run within a chunk. `whimbrel resume` goes on where it stopped."""
    return _stop(run_id, TO_PAUSE, _paused, "Go on with: whimbrel resume {}", wait=wait, json=json)


def cancel(run_id: RunId = None, wait: Wait = True, json: Json = False) -> int:
    """Stop a run for good, within a chunk. What it has changed stays changed."""
    return _stop(run_id, TO_CANCEL, _cancelled, "What it has changed stays changed.", wait=wait, json=json)


def _stop(
    run_id: str | None, fit: Fit, ask: Callable[[Ledger, Run], Run], then: str, *, wait: bool, json: bool
) -> int:
    settings, screen = begin(json=json)
    with Interrupts(), asked(settings, screen, chooses=True) as at:
        run = ask(at.store.ledger, chosen(screen, at.store.ledger, run_id, fit))
        if wait and run.status in DRAINING:
            run = _drained(at, settings, run, screen)
        if json:
            screen.answer(run_object(view(at.store.ledger, run)))
        else:
            screen.show(f"Run {run.id} is {run.status}. {then.format(run.id)}")
        return 0


def _paused(ledger: Ledger, run: Run) -> Run:
    stopped = run.status in (RunStatus.PAUSING, RunStatus.PAUSED)
    return run if stopped else control.pause(ledger, run.id, who=caller())


def _cancelled(ledger: Ledger, run: Run) -> Run:
    stopped = run.status in (RunStatus.CANCELLING, RunStatus.CANCELLED)
    return run if stopped else control.cancel(ledger, run.id, who=caller())


def _drained(at: Opened, settings: Settings, run: Run, screen: Screen) -> Run:
    """Wait; and coordinate, for there may be no other process that does. Raises WhimbrelError after a minute."""
    ledger, end = at.store.ledger, time.monotonic() + STOPPING
    with Parent(at.store, settings, None) as parent:
        while run.status in DRAINING:
            if parent.broken is not None:
                raise parent.broken
            if time.monotonic() > end:
                held = ledger.batches.count(run.id, [BatchStatus.RUNNING])
                raise WhimbrelError(
                    f"Run {run.id} is {run.status} still: {held} of its batches are in work after {STOPPING:.0f} seconds. "
                    f"It stops when they are free: whimbrel status {run.id}"
                )
            time.sleep(0.1)
            run = control.find_run(ledger, run.id)
    screen.say(f"Nobody works on run {run.id} any more.")
    return run
