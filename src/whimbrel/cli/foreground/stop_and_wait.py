"""Stops a run, and waits until no process works on it any more."""

import time
from collections.abc import Callable
from typing import Annotated

import typer

from whimbrel.bootstrap import Opened
from whimbrel.cli.arguments.options import begin
from whimbrel.cli.arguments.which_database import open_database
from whimbrel.cli.arguments.which_run import RunFilter, choose_run
from whimbrel.cli.foreground.interrupts import Interrupts
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import run_object, view
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Ledger
from whimbrel.settings import Settings
from whimbrel.workers.parent_process import ParentProcess

STOPPING = 60.0  # seconds to wait: longer than a lease, its grace and a sweep together
DRAINING = (RunStatus.PAUSING, RunStatus.CANCELLING)

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="wait until nobody works on it any more")]


def stop(
    run_id: str | None,
    fit: RunFilter,
    ask: Callable[[Ledger, Run], Run],
    advice: str,
    *,
    wait: bool,
    json: bool,
) -> int:
    settings, screen = begin(json=json)
    with Interrupts(), open_database(settings, screen, chooses=True) as system:
        run = ask(system.store.ledger, choose_run(screen, system.store.ledger, run_id, fit))
        if wait and run.status in DRAINING:
            run = _wait_until_stopped(system, settings, run, screen)
        if json:
            screen.answer(run_object(view(system.store.ledger, run)))
        else:
            screen.show(f"Run {run.id} is {run.status}. {advice.format(run.id)}")
        return 0


def _wait_until_stopped(system: Opened, settings: Settings, run: Run, screen: Screen) -> Run:
    """Waits, and coordinates, as no other process may do so. Raises WhimbrelError after a minute."""
    ledger, end = system.store.ledger, time.monotonic() + STOPPING
    with ParentProcess(system.store, settings, None) as parent:
        while run.status in DRAINING:
            if parent.broken is not None:
                raise parent.broken
            if time.monotonic() > end:
                batches_in_work = ledger.batches.count(run.id, [BatchStatus.RUNNING])
                raise WhimbrelError(
                    f"Run {run.id} is {run.status} still: {batches_in_work} of its batches are in work after {STOPPING:.0f} seconds. "
                    f"It stops when they are free: whimbrel status {run.id}"
                )
            time.sleep(0.1)
            run = control.find_run(ledger, run.id)
    screen.say(f"Nobody works on run {run.id} any more.")
    return run
