"""The gate: the share of its speed that a process's slots may use for a run, as the database's health, freezes and the run's own terms allow."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from whimbrel.domain.health.verdict import Verdict
from whimbrel.domain.runs.allowance import Allowance, Circumstances, Paced, allowance, with_lanes
from whimbrel.errors import WhimbrelError
from whimbrel.ports.freezes import FreezeLook

LOOK_SECONDS = 1.0  # between two looks at the ledger


class Gate:
    """Shared by the slots of a process.

    `read`: returns the newest verdict; None: nobody watches the database's health. A verdict that nobody renews closes the gate, and so
    does a ledger that does not answer: an age is counted on from the last answer.
    `frozen`: returns the freezes with the server's time, by which windows count too; None: there are none, and this host's clock counts.
    """

    def __init__(
        self,
        read: Callable[[], Verdict] | None = None,
        frozen: Callable[[], FreezeLook] | None = None,
    ) -> None:
        self._read, self._frozen = read, frozen
        self._lock = threading.Lock()
        self._verdict = Verdict(age=0.0)  # a process that has just begun waits for the first one
        self._freezes: FreezeLook | None = None
        self._read_at = self._frozen_at = self._looked_at = time.monotonic()
        if read is not None or frozen is not None:
            self._looked_at -= LOOK_SECONDS
        self._at_work: Sequence[Paced] = ()

    def admit(self, at_work: Sequence[Paced]) -> None:
        """Tells which runs are running, with their terms as they are now."""
        self._at_work = at_work

    def share_of(self, run: Paced) -> float:
        """Returns the share that may be used for a run now, from 0 to 1."""
        return self.allowance_of(run).share

    def allowance_of(self, run: Paced) -> Allowance:
        """Returns what a run may have now; by its newest terms, where it is among the admitted ones."""
        newest = next((admitted for admitted in self._at_work if admitted.id == run.id), run)
        return allowance(newest, self.around)

    @property
    def around(self) -> Circumstances:
        """What holds for all runs now."""
        self._look()
        around = Circumstances(now=self._now, verdict=None if self._read is None else self._aged())
        if self._frozen is not None:
            around = replace(around, freezes=None if self._freezes is None else self._freezes.freezes)
        held_back = around.verdict is not None and around.verdict.allowed < 1.0
        return with_lanes(around, self._at_work) if held_back else around

    @property
    def _now(self) -> datetime:
        if self._freezes is None:
            return datetime.now(UTC)
        return self._freezes.now + timedelta(seconds=time.monotonic() - self._frozen_at)

    def _aged(self) -> Verdict:
        verdict = self._verdict
        return verdict.aged((verdict.age or 0.0) + time.monotonic() - self._read_at)

    def _look(self) -> None:
        """Reads the ledger again where that is a while ago; one slot does it, the others go on with what is known."""
        if self._read is None and self._frozen is None:
            return
        if time.monotonic() - self._looked_at >= LOOK_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._looked_at = time.monotonic()
                self._look_at_freezes()
                self._look_at_verdict()
            except WhimbrelError:
                return
            finally:
                self._lock.release()

    def _look_at_freezes(self) -> None:
        if self._frozen is not None:
            self._freezes, self._frozen_at = self._frozen(), time.monotonic()

    def _look_at_verdict(self) -> None:
        if self._read is not None:
            verdict = self._read()
            if verdict.age is not None:
                self._verdict, self._read_at = verdict, time.monotonic()


def rest_after(worked: float, share: float) -> float:
    """Returns the seconds that a slot rests after it has worked so long, to use no more than its share of the time."""
    return worked * (1 / share - 1) if share > 0.0 else float("inf")
