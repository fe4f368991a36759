"""Batches at which Whimbrel itself has failed in this process: each waits longer from one try to the next."""

import threading
import time
from dataclasses import dataclass

FIRST, LONGEST = 0.1, 30.0  # seconds until the next try; they double


@dataclass(frozen=True, slots=True)
class _Fault:
    tries: int
    until: float  # by the monotonic clock


class FaultyBatches:
    """What went wrong, by the batch's token. For several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, _Fault] = {}

    def met(self, token: str) -> int:
        """A batch has failed once more: how often that is."""
        with self._lock:
            tries = self._found[token].tries + 1 if token in self._found else 1
            pause = min(FIRST * 2 ** (tries - 1), LONGEST)
            self._found[token] = _Fault(tries, time.monotonic() + pause)
            return tries

    def over(self, token: str) -> None:
        with self._lock:
            self._found.pop(token, None)

    def of_run(self, run: str) -> int:
        """How many batches of a run have failed here, and were not done here since."""
        with self._lock:
            return sum(token.partition(".")[0] == run for token in self._found)

    def aside(self) -> list[str]:
        """The batches that wait for their next try here."""
        now = time.monotonic()
        with self._lock:
            return [token for token, fault in self._found.items() if fault.until > now]

    def keep(self, runs: set[str]) -> None:
        """Forget the batches of all other runs."""
        with self._lock:
            self._found = {token: it for token, it in self._found.items() if token.partition(".")[0] in runs}
