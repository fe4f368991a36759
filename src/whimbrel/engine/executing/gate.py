"""The gate: the share of its speed that a process's slots may use, as the newest verdict on the database's health allows."""

import threading
import time
from collections.abc import Callable

from whimbrel.domain.health.verdict import Verdict
from whimbrel.errors import WhimbrelError

LOOK_SECONDS = 1.0  # between two looks at the verdict
LONGEST_REST = 5.0  # seconds after one chunk


class Gate:
    """Shared by the slots of a process. `read`: returns the newest verdict; None: nobody watches, and the gate is open.

    A verdict that nobody renews closes the gate, and so does a ledger that does not answer: an age is counted on from the last answer.
    """

    def __init__(self, read: Callable[[], Verdict] | None = None) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._verdict = Verdict(age=0.0)  # a process that has just begun waits for the first one
        self._read_at = self._looked_at = time.monotonic()
        if read is not None:
            self._looked_at -= LOOK_SECONDS

    @property
    def share(self) -> float:
        """The share that may be used now, from 0 to 1."""
        if self._read is None:
            return 1.0
        if time.monotonic() - self._looked_at >= LOOK_SECONDS and self._lock.acquire(blocking=False):
            try:
                self._look(self._read)
            finally:
                self._lock.release()
        return self._allowed()

    def _look(self, read: Callable[[], Verdict]) -> None:
        self._looked_at = time.monotonic()
        try:
            verdict = read()
        except WhimbrelError:
            return
        if verdict.age is not None:
            self._verdict, self._read_at = verdict, time.monotonic()

    def _allowed(self) -> float:
        verdict = self._verdict
        return verdict.aged((verdict.age or 0.0) + time.monotonic() - self._read_at).allowed


def rest_after(worked: float, share: float) -> float:
    """Returns the seconds that a slot rests after it has worked so long, to use no more than its share of the time."""
    if share >= 1.0:
        return 0.0
    return min(LONGEST_REST, worked * (1 / share - 1)) if share > 0.0 else LONGEST_REST
