"""Handles the first Ctrl-C: leaves the run to other workers if there are any, else pauses it; in a thread of its own."""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from whimbrel.cli.arguments.options import caller
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.domain.text.printable import counted
from whimbrel.engine.operating import control
from whimbrel.errors import RunUnknown, StateForbids, Transient
from whimbrel.ports import Ledger
from whimbrel.workers.supervisor import Supervisor

T = TypeVar("T")

DRAINING = 30.0  # seconds that workers have to finish their chunks
PAUSING = 60.0  # seconds until batches that other processes held are free again
LOOK = 0.1  # seconds between two reads


class LeaveOrPause:
    """Begins at once. `over` when the workers have ended and the run is paused or left to others."""

    def __init__(self, ledger: Ledger, run_id: str, supervisor: Supervisor, *, why: str = "") -> None:
        self._ledger, self._run, self._supervisor = ledger, run_id, supervisor
        self.said, self._why = "", why
        self._go_on = f"Go on with: whimbrel resume {run_id}"
        self._thread = threading.Thread(target=self._leave, name="leaving", daemon=True)
        self._thread.start()

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def within(self, seconds: float) -> str:
        """Returns the message for the user after so many seconds at most."""
        self._thread.join(seconds)
        return self.said or f"Nothing is lost. {self._go_on}"

    def _leave(self) -> None:
        try:
            self._leave_or_pause()
        except RunUnknown:
            self.said = (
                f"Run {self._run} is gone from the ledger, and with it what is known of it: it cannot be resumed. What it has changed stays "
                "changed. Restore the ledger, or start a new run: documents that bear a mark are not taken again."
            )

    def _leave_or_pause(self) -> None:
        other_slots = _until_answered(self._others)
        if not other_slots:
            _until_answered(self._pause)
        self._supervisor.drain(DRAINING)
        if other_slots:
            self.said = f"Left. {counted(other_slots, 'slot')} of other workers {'goes' if other_slots == 1 else 'go'} on with run {self._run}."
        elif _until_answered(self._wait_until_paused):
            self.said = f"Paused; nothing is lost. {self._advice()}".rstrip()
        else:
            self.said = f"Other processes still hold batches of the run, which pauses when these are free. {self._go_on}"

    def _advice(self) -> str:
        """Returns how to go on; nothing for a run that went over its failure budget, whose reason says more."""
        run = _until_answered(lambda: control.find_run(self._ledger, self._run))
        return "" if run.over_budget else self._go_on

    def _others(self) -> int:
        run = control.find_run(self._ledger, self._run)
        return self._ledger.leases.slots(ALIVE, run=run, without=self._supervisor.prefix)

    def _pause(self) -> None:
        """Pauses the run; one that is paused, being cancelled or over stays so."""
        with contextlib.suppress(StateForbids):
            control.pause(self._ledger, self._run, who=caller(), why=self._why)

    def _wait_until_paused(self) -> bool:
        """Waits for the coordinator to note that no process works on the run any more."""
        end = time.monotonic() + PAUSING
        while time.monotonic() < end:
            if control.find_run(self._ledger, self._run).status in (RunStatus.PAUSED, *ENDED):
                return True
            time.sleep(LOOK)
        return False


def _until_answered(ask: Callable[[], T]) -> T:
    """Calls `ask` until the ledger answers."""
    while True:
        try:
            return ask()
        except Transient:
            time.sleep(LOOK)
