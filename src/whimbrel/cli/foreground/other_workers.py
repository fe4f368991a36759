"""Leaves runs to the workers of other processes."""

import time

from whimbrel.bootstrap import Opened
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.domain.text.printable import counted
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import run_object, view
from whimbrel.engine.operating.unserved_runs import unserved
from whimbrel.ports import Ledger

FRESH_BEAT = 3.5  # seconds within which a live worker sends another heartbeat


def leave_to_others(screen: Screen, system: Opened, run: Run, *, tell: bool = False) -> int:
    """Leaves a run to others, and shows which slots serve it, or that none do. `tell`: its id, on standard output."""
    ledger = system.store.ledger
    slots = ledger.leases.slots(ALIVE, run=run)
    screen.say(
        f"{counted(slots, 'slot')} of live workers {'serves' if slots == 1 else 'serve'} it. Watch it with: whimbrel status {run.id} --watch"
        if slots
        else unserved(ledger, run)
    )
    if screen.json:
        screen.answer(run_object(view(ledger, control.find_run(ledger, run.id))))
    elif tell:
        screen.show(run.id)
    return 0


def served_by_others(ledger: Ledger, run: Run) -> int:
    """Counts slots of live workers, which must send another heartbeat: they may have died a moment ago."""
    began = time.monotonic()
    while ledger.leases.slots(ALIVE, run=run):
        waited = time.monotonic() - began
        if ledger.leases.slots(waited, run=run):
            return ledger.leases.slots(ALIVE, run=run)
        if waited > FRESH_BEAT:
            return 0
        time.sleep(0.1)
    return 0
