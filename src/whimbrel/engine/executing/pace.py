"""How fast a slot goes through a batch: what it does between two chunks, and how large these may be."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from whimbrel.domain.runs.chunk_size import ChunkSize
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.sizing import BatchWork, ChunkLimit
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.executing.gate import Gate, rest_after
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.outcome_tally import OutcomeTally
from whimbrel.errors import Transient
from whimbrel.ports import Ledger

RATE_SECONDS = 1.0  # between two reads of a run's rate
REST_SECONDS = 1.0  # that a slot of a run with a rate pauses after a chunk, about


@dataclass(slots=True)
class Pace:
    """A run's rate as its slot read it last, and how the slot keeps it. All slots of a run keep it together."""

    lease: Lease
    tally: OutcomeTally
    ledger: Ledger
    times: Times
    gate: Gate
    size: ChunkSize  # of statements, as the process learns it
    rate: int | None = field(init=False)  # documents a second
    slots: int = 1  # working on the run
    _rate_read: float = field(init=False)  # when the rate was read
    _began: float = field(init=False)  # when the slot began what it does after its last rest
    _worked: float = 0.0  # seconds, before its last rest

    def __post_init__(self) -> None:
        self.rate = self.lease.run.rate
        self._rate_read = time.monotonic() if self.rate is None else float("-inf")
        self._began = time.monotonic()

    @property
    def chunk(self) -> int:
        """How many documents a statement may have: it should be short, and the pause after it too where the run has a rate."""
        return max(1, min(self.size.documents, self._chunk_by_rate))

    @property
    def _chunk_by_rate(self) -> int:
        return self.size.documents if self.rate is None else int(self.rate * REST_SECONDS / self.slots)

    @property
    def work(self) -> BatchWork:
        """What the batch has taken since it was claimed."""
        by_rate = self._chunk_by_rate < self.size.documents
        limit: ChunkLimit = "rate" if by_rate else self.size.limit
        seconds = self._worked + time.monotonic() - self._began
        return BatchWork(self.tally.evaluated, seconds, self.chunk, limit)

    def between_chunks(self) -> None:
        """Checks for a stop request, renews a lease that is half over, keeps the run's rate and share. Raises LeaseStopped or LeaseLost."""
        worked = time.monotonic() - self._began
        self._worked += worked
        if self.tally.owed:
            self.tally.chunk_times = self.tally.chunk_times.with_one(worked)
        self._rest(worked)
        self._sleep(self.times.delay)
        self._wait_for_rate()
        self.lease.step()
        self.lease.check()
        if self.lease.due:
            self.lease.renew(self.ledger.batches)
        self._read_rate()
        self._began = time.monotonic()

    def _rest(self, worked: float) -> None:
        """Rests after so many seconds of work, as long as the gate demands now; while it is closed, waits until it opens."""
        began = time.monotonic()
        while not (self.lease.stop or self.lease.lost):
            left = rest_after(worked, self.gate.share_of(self.lease.run)) - (time.monotonic() - began)
            if left <= 0:
                return
            self.lease.step()
            time.sleep(min(left, 0.1))

    def _sleep(self, seconds: float, is_over: Callable[[], bool] = lambda: False) -> None:
        """Waits between two chunks: shorter where the batch must stop, and without seeming to hang."""
        end = time.monotonic() + seconds
        while (remaining := end - time.monotonic()) > 0 and not (
            self.lease.stop or self.lease.lost or is_over()
        ):
            self.lease.step()
            time.sleep(min(remaining, 0.1))

    def _wait_for_rate(self) -> None:
        """Waits for as long as the run's rate demands after what this slot has done.

        All slots reserve from one clock in the run's row: together they keep the rate, however many slots there are.
        """
        rate, owed, self.tally.owed = self.rate, self.tally.owed, 0
        if rate is None or not owed:
            return
        try:
            seconds = self.ledger.runs.reserve(self.lease.run.id, owed, rate)
        except Transient:
            seconds = owed * self.slots / rate

        def changed() -> bool:
            self._read_rate()
            return self.rate != rate

        self._sleep(seconds, changed)

    def _read_rate(self) -> None:
        """Reads the run's rate once a second: it may be changed at any time."""
        now = time.monotonic()
        if now - self._rate_read < RATE_SECONDS:
            return
        self._rate_read = now
        try:
            run = self.ledger.runs.get(self.lease.run.id)
            self.rate = run.rate if run else None
            self.lease.changes = run.changes if run else self.lease.changes
            if self.rate is not None:
                self.slots = max(1, self.ledger.batches.count(self.lease.run.id, [BatchStatus.RUNNING]))
        except Transient:
            return  # the last rate read stays in force
