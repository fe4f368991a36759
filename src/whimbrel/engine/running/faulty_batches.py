"""Batches on which Whimbrel itself has failed in this process: each waits longer from one attempt to the next."""

import threading
import time
from dataclasses import dataclass

from whimbrel.domain.failures.retry_policy import OWN_FAULT


@dataclass(frozen=True, slots=True)
class _Fault:
    tries: int
    until: float  # by the monotonic clock


class FaultyBatches:
    """The failed batches, by token. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: dict[str, _Fault] = {}

    def record(self, token: str) -> int:
        """Counts a failure of a batch. Returns how often it has failed."""
        with self._lock:
            tries = self._faults[token].tries + 1 if token in self._faults else 1
            self._faults[token] = _Fault(tries, time.monotonic() + OWN_FAULT.delay(tries, 0.0))
            return tries

    def forget(self, token: str) -> None:
        with self._lock:
            self._faults.pop(token, None)

    def of_run(self, run: str) -> int:
        """Returns how many batches of a run have failed here, and were not done here since."""
        with self._lock:
            return sum(token.partition(".")[0] == run for token in self._faults)

    def waiting(self) -> list[str]:
        """Returns the batches that wait for their next attempt here."""
        now = time.monotonic()
        with self._lock:
            return [token for token, fault in self._faults.items() if fault.until > now]

    def keep(self, runs: set[str]) -> None:
        """Forgets the batches of all other runs."""
        with self._lock:
            self._faults = {
                token: fault for token, fault in self._faults.items() if token.partition(".")[0] in runs
            }
