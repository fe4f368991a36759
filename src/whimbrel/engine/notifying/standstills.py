"""Notices runs that make no progress, and tells it once until they make some.

A run that waits for a reason of its own makes none either, and that is told nobody: while the database's health holds all back, while somebody
has stopped the consumers, outside its windows and in a freeze, at the gate of a stage, while it follows and nothing is written, until failures are due
again. Paused and queued runs are not at work.
"""

import time

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.stages import is_held
from whimbrel.ports import Ledger
from whimbrel.ports.ledger import CONSUMERS

LEAST, LONGEST = 0.2, 10.0  # seconds between two looks
LOOKS = 10  # in the time after which it is told
UNSEEN = 30.0  # seconds between two looks, or three times what is usual: a longer time does not count, as nobody knows what was then


class Standstills:
    """What one process knows of them. `seconds`: without progress, after which it is told; 0: never. `watched`: runs obey the database's health."""

    def __init__(self, ledger: Ledger, seconds: float, *, watched: bool) -> None:
        self._ledger, self._seconds, self._watched = ledger, seconds, watched
        self._every = min(LONGEST, max(LEAST, seconds / LOOKS))
        self._looked = float("-inf")

    def look(self) -> int:
        """Looks at the runs at work, where that is due. Returns how many it has told of."""
        if not self._seconds or time.monotonic() - self._looked < self._every:
            return 0
        self._looked = time.monotonic()
        running = {run.id: run for run in self._ledger.runs.every({RunStatus.RUNNING})}
        if not running:
            return 0
        marks = self._ledger.webhooks.progress_marks(list(running.values()))
        all_wait = self._all_wait()
        return sum(self._told(run, marks[run.id], all_wait) for run in running.values())

    def _told(self, run: Run, mark: str, all_wait: bool) -> bool:
        waits = all_wait or _waits_by_itself(run) or self._waits_for_retries(run)
        seconds = self._ledger.webhooks.standstill(
            run.id, mark, waits=waits, patience=max(UNSEEN, 3 * self._every)
        )
        if seconds < self._seconds:
            return False
        shown = view(self._ledger, run)
        why = f"No progress for {minutes(seconds)}." + (f" {shown.run.message}" if shown.run.message else "")
        return self._ledger.webhooks.tell_standstill(run.id, mark, why)

    def _all_wait(self) -> bool:
        """Whether nobody may work on any run now."""
        if self._ledger.leases.is_off(CONSUMERS):
            return True
        return self._watched and self._ledger.health.verdict().allowed == 0.0

    def _waits_for_retries(self, run: Run) -> bool:
        """Whether nothing is left of a run but failures that are not due yet."""
        return run.phase == "failed" and (view(self._ledger, run).next_retry or 0.0) > 0.0


def _waits_by_itself(run: Run) -> bool:
    return is_held(run, run.allowance) or run.phase == "follow"


def minutes(seconds: float) -> str:
    """Returns a time in whole minutes, or in seconds where it is less than one."""
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min"  # noqa: PLR2004  a minute
