"""How fast a slot goes through a batch: what it does between two chunks, and how large these may be."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS, Times
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.outcome_tally import OutcomeTally
from whimbrel.errors import Transient
from whimbrel.ports import Ledger

RATE_SEEN = 1.0  # seconds between two looks at the rate of a run
REST = 1.0  # seconds that a slot rests after a chunk of a run with a rate, about


@dataclass(slots=True)
class Pace:
    """A run's rate as its slot saw it last, and the way to keep it. All slots of a run keep it together."""

    lease: Lease
    tally: OutcomeTally
    ledger: Ledger
    times: Times
    rate: int | None = field(init=False)  # documents a second
    slots: int = 1  # that work on the run
    _seen: float = field(init=False)  # when the rate was

    def __post_init__(self) -> None:
        self.rate = self.lease.run.rate
        self._seen = time.monotonic() if self.rate is None else float("-inf")

    @property
    def chunk(self) -> int:
        """How many documents a chunk may have, so that the rest after it is short."""
        if self.rate is None:
            return CHUNK_DOCUMENTS
        return max(1, min(CHUNK_DOCUMENTS, int(self.rate * REST / self.slots)))

    def between_chunks(self) -> None:
        """Stop requested? Lease more than half over? Is the run's rate kept? Raises LeaseStopped or LeaseLost."""
        self._rest(self.times.delay)
        self._pay()
        self.lease.step()
        self.lease.check()
        if self.lease.due:
            self.lease.renew(self.ledger.batches)
        self._look()

    def _rest(self, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        """A delay between two chunks: it ends early where the batch must stop, and is no hanging."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not (self.lease.stop or self.lease.lost or over()):
            self.lease.step()
            time.sleep(min(left, 0.1))

    def _pay(self) -> None:
        """Wait for as long as the run's rate demands after what this slot has done.

        All slots reserve from one clock in the run's row: together they keep the rate, however many there are.
        """
        rate, owed, self.tally.owed = self.rate, self.tally.owed, 0
        if rate is None or not owed:
            return
        try:
            seconds = self.ledger.runs.reserve(self.lease.run.id, owed, rate)
        except Transient:
            seconds = owed * self.slots / rate

        def changed() -> bool:
            self._look()
            return self.rate != rate

        self._rest(seconds, changed)

    def _look(self) -> None:
        """Learn the run's rate once a second: it may be changed at any time."""
        now = time.monotonic()
        if now - self._seen < RATE_SEEN:
            return
        self._seen = now
        try:
            found = self.ledger.runs.get(self.lease.run.id)
            self.rate = found.rate if found else None
            if self.rate is not None:
                self.slots = max(1, self.ledger.batches.count(self.lease.run.id, [BatchStatus.RUNNING]))
        except Transient:
            return  # what was seen last holds on
