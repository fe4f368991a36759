"""The lease under which a slot works on a claimed batch: prolonged while there is progress, lost, or given up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batch_progress import Progress
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.errors import LeaseLost, Remedy, Transient, WhimbrelError
from whimbrel.ports import Batches

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LeaseStopped(WhimbrelError):
    """The run was paused or cancelled, or the process drains: the batch is given back between two chunks."""

    remedy = Remedy.STOP


def clock() -> float:
    """Returns seconds as leases count them: they continue while the machine is suspended, where the system has such a clock."""
    return time.clock_gettime(_CLOCK)


@dataclass(slots=True)
class Lease:
    """What the slot, the heartbeat and the watchdog share about a claimed batch."""

    batch: Batch
    run: Run
    until: datetime  # the fence: the end of the last renewal that was acknowledged, by the server's clock
    renewed: float  # by `clock`: when the last renewal, or the claim, was asked for
    seconds: float
    progress: float = field(default_factory=time.monotonic)  # when the slot last moved on
    lost: bool = False
    stop: bool = False  # the batch has to be given back
    known: Progress = field(init=False)  # what of the batch is done
    changes: int = field(init=False)  # of the run's settings, that the slot has read
    untouched: bool = field(init=False)  # whether nothing else was sent
    calling: tuple[Key, float] | None = None  # the document that the function is called with, and since when
    awaited: dict[Key, float] = field(default_factory=dict)  # the same for an `async def`, which has several

    def __post_init__(self) -> None:
        self.changes = self.run.changes
        self.known, self.untouched = self.batch.progress, self.batch.fresh

    def step(self) -> None:
        """Tells that the slot moves on: neither its batch nor its process is stuck."""
        self.progress = time.monotonic()

    @property
    def over(self) -> bool:
        """Whether the lease has ended by now, unless somebody else renewed it."""
        return clock() - self.renewed > self.seconds

    @property
    def due(self) -> bool:
        """Whether half of the lease is over."""
        return clock() - self.renewed > self.seconds / 2

    def check(self) -> None:
        """Raises LeaseLost or LeaseStopped where the slot may not go on with the batch."""
        if self.lost:
            raise LeaseLost(f"Batch {self.batch.token} was taken over.")
        if self.stop:
            raise LeaseStopped(self.batch.token)

    def renew(self, batches: Batches) -> None:
        """Prolongs the lease, from the time of the request, not of the answer. Raises LeaseLost."""
        requested = clock()
        try:
            self.until = batches.renew(self.batch)
        except LeaseLost:
            self.lost = True
            raise
        self.renewed = requested

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Surrounds a statement of which only a count comes back.

        Raises Transient where its fence may have passed before the server executed it: that looks like nothing
        to change. The statement is then made again under a new lease.
        """
        renewed = self.renewed
        yield
        if clock() - renewed > self.seconds:
            raise Transient(
                f"The lease of batch {self.batch.token} may have ended before the statement began."
            )
