"""A claimed batch in the hands of one slot: its lease, its tally, and what may end it before its time."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol, TypeVar

import structlog

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.failures import Trouble
from whimbrel.domain.filters import all_of, beside_id
from whimbrel.domain.marks import CHANGED, CLAIMED, FAILED, SKIPPED, UNCHANGED, stamp
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import Key, keys_under
from whimbrel.domain.runs import Run, eligible
from whimbrel.domain.states import BatchStatus
from whimbrel.domain.times import CHUNK_DOCUMENTS, Times
from whimbrel.engine.loop import EventLoop
from whimbrel.errors import LeaseLost, Remedy, Transient, WhimbrelError
from whimbrel.ports import Documents, Guarded, Ledger, Query, Write

T = TypeVar("T")
log = structlog.get_logger("whimbrel.worker")

Step = Callable[[str], None]
"""Called at each numbered step of the protocol; fault tests die in it."""


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
AGED = 60.0  # seconds after which a batch has been in hand for long
LOOK = 1.0  # seconds between two looks at the rate of a run
PAUSE = 1.0  # seconds that a slot rests after a chunk of a run with a rate, about


@dataclass(frozen=True, slots=True)
class Called:
    """What came of calls: `done` documents of those given were reached before the chunk's time was over."""

    guarded: list[Guarded]
    troubles: list[Trouble]
    done: int


class Call(Protocol):
    """What is asked, for documents in their order, what shall become of them, until the monotonic clock passes `until`.

    At least one document is answered for.
    """

    def __call__(
        self, work: "Work", documents: Sequence[bytes], attempts: Mapping[Key, int], *, until: float
    ) -> Called: ...


class Stopped(WhimbrelError):
    """The run was paused or cancelled, or the process drains: the batch is given back between two chunks."""

    remedy = Remedy.STOP


def clock() -> float:
    """Seconds, as leases count them: they go on while the machine is suspended, where its system has such a clock."""
    return time.clock_gettime(_CLOCK)


@dataclass(slots=True)
class Hold:
    """What the slot, the heartbeat and the watch share about a claimed batch."""

    batch: Batch
    run: Run
    until: datetime
    renewed: float  # by `clock`: when the last renewal, or the claim, was asked for
    progress: float = field(default_factory=time.monotonic)
    lost: bool = False
    stop: bool = False
    calling: tuple[Key, float] | None = None  # the document in the function's hands, and since when
    awaited: dict[Key, float] = field(default_factory=dict)  # the same of an `async def`, which has several


@dataclass(slots=True)
class Pace:
    """A run's rate as its slot saw it last, and the documents evaluated since the slot last waited for it."""

    rate: int | None
    looked: float
    active: int = 1  # slots that work on the run
    owed: int = 0

    @property
    def chunk(self) -> int:
        """How many documents a chunk may have, so that the rest after it is short."""
        if self.rate is None:
            return CHUNK_DOCUMENTS
        return max(1, min(CHUNK_DOCUMENTS, int(self.rate * PAUSE / self.active)))


@dataclass(slots=True)
class Work:
    """Everything that executing one claimed batch needs."""

    run: Run
    batch: Batch
    definition: Definition
    call: Call
    documents: Documents
    ledger: Ledger
    hold: Hold
    times: Times
    step: Step
    loop: EventLoop
    turn: threading.Lock
    limit: int = CHUNK_DOCUMENTS
    tally: dict[str, int] = field(default_factory=lambda: {CHANGED: 0, UNCHANGED: 0, SKIPPED: 0})
    clean: bool = True
    excluded: set[Key] = field(default_factory=set)
    tokens: Query = field(default_factory=dict)  # in the phase processing: whose documents may be taken
    left: dict[Range | Sequence[Key], Counter[str]] | None = (
        None  # there: its documents by status, where no index tells
    )
    aging: Callable[[], None] = lambda: None  # called once, when the batch has been in hand for long
    begun: float | None = field(default_factory=time.monotonic)
    pace: Pace = field(init=False)

    def __post_init__(self) -> None:
        self.pace = Pace(self.run.rate, time.monotonic() if self.run.rate is None else float("-inf"))

    @property
    def retry(self) -> bool:
        return self.batch.retry

    @property
    def eligible(self) -> Query:
        query = eligible(self.run, self.batch.phase, retry=self.retry)
        if (
            self.batch.found and self.batch.ids is not None
        ):  # its documents were found by the whole filter, and an id does not change
            query = beside_id(query)
        query = all_of(query, self.tokens)
        if self.run.claim and not self.clean:  # what this batch has claimed and not finished is its own again
            query = {"$or": [query, self._claimed]}
        return all_of(query, self._not_excluded())

    @property
    def writable(self) -> Query:
        """What a document satisfies when it is written: eligible, or claimed by this batch."""
        if not self.run.claim:
            return self.eligible
        return self._claimed

    @property
    def _claimed(self) -> Query:
        return {self.run.status_field: "processing", "processedBy": stamp(self.batch.token, CLAIMED)}

    def _not_excluded(self) -> Query:
        return (
            {"_id": keys_under("$nin", sorted(self.excluded, key=lambda key: key.raw))}
            if self.excluded
            else {}
        )

    def write(self, *, reads: tuple[str, ...] | None = None) -> Write:
        """What the statements of the next chunk carry; the fence is the last renewal acknowledged."""
        variables = self.batch.variables if self.run.declarative else {}
        return Write(
            eligible=self.writable, until=self.hold.until, mark=self.run.marking, token=self.batch.token,
            variables=variables, reads=reads, undo=self.run.undoing,
        )  # fmt: skip

    def between_chunks(self) -> None:
        """Stop requested? Lease more than half left? Is the run's rate kept? Raises Stopped or LeaseLost."""
        self._rest(self.times.delay)
        self._pay()
        self.hold.progress = time.monotonic()
        if self.hold.lost:
            raise LeaseLost(f"Batch {self.batch.token} was taken over.")
        if self.hold.stop:
            raise Stopped(self.batch.token)
        if clock() - self.hold.renewed > self.times.lease / 2:
            renew(self.ledger, self.hold)
        self._look()
        if self.begun is not None and time.monotonic() - self.begun > AGED:
            self.begun = None
            self.aging()
        if not self.run.declarative:
            self.limit = min(self.limit, self.pace.chunk)

    @contextmanager
    def fenced(self) -> Iterator[None]:
        """Around a statement of which only a count comes back.

        Raises Transient where its fence may have passed before the server came to it: nothing tells that from nothing
        to change. It is made again then, under a new lease.
        """
        renewed = self.hold.renewed
        yield
        if clock() - renewed > self.times.lease:
            raise Transient(
                f"The lease of batch {self.batch.token} may have ended before the statement began."
            )

    def _rest(self, seconds: float, over: Callable[[], bool] = lambda: False) -> None:
        """A delay between two chunks: it ends early where the batch must stop, and is no hanging."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not (self.hold.stop or self.hold.lost or over()):
            self.hold.progress = time.monotonic()
            time.sleep(min(left, 0.1))

    def _pay(self) -> None:
        """Wait for as long as the run's rate demands after what this slot has done.

        All slots reserve from one clock in the run's row: together they keep the rate, however many there are.
        """
        rate, owed, self.pace.owed = self.pace.rate, self.pace.owed, 0
        if rate is None or not owed:
            return
        try:
            seconds = self.ledger.runs.reserve(self.run.id, owed, rate)
        except Transient:
            seconds = owed * self.pace.active / rate

        def changed() -> bool:
            self._look()
            return self.pace.rate != rate

        self._rest(seconds, changed)

    def _look(self) -> None:
        """Learn the run's rate once a second: it may be changed at any time."""
        now = time.monotonic()
        if now - self.pace.looked < LOOK:
            return
        self.pace.looked = now
        try:
            found = self.ledger.runs.get(self.run.id)
            self.pace.rate = found.rate if found else None
            if self.pace.rate is not None:
                self.pace.active = max(1, self.ledger.batches.count(self.run.id, [BatchStatus.RUNNING]))
        except Transient:
            return  # what was seen last holds on

    def count(self, documents: list[Guarded] | int, outcome: str = CHANGED) -> None:
        number = documents if isinstance(documents, int) else len(documents)
        self.tally[outcome] += number
        self.pace.owed += number

    def fail(self, troubles: list[Trouble]) -> None:
        """S7: record failures, before the batch settles; the document's own field only as far as it goes."""
        if not troubles:
            return
        self.pace.owed += len(troubles)
        record(self.ledger, self.hold, troubles)
        self.step("S7")
        fields = self.run.marking.failed(stamp(self.batch.token, FAILED))
        if fields:
            anyhow = replace(self.write(), eligible=self.run.marking.unmarked(self.batch.phase, retry=True))
            self.documents.mark_failed([each.key for each in troubles], fields, anyhow)
        self.excluded |= {each.key for each in troubles}


def renew(ledger: Ledger, hold: Hold) -> None:
    """Prolong a lease. The time of asking counts, not that of the answer."""
    asked = clock()
    try:
        hold.until = ledger.batches.renew(hold.batch)
    except LeaseLost:
        hold.lost = True
        raise
    hold.renewed = asked


def record(ledger: Ledger, hold: Hold, troubles: Sequence[Trouble]) -> None:
    """Record failures of a batch's documents. Raises LeaseLost.

    A row knows no fence, so the lease is renewed first: whoever has slept through it must not write one.
    """
    renew(ledger, hold)
    ledger.failures.record(hold.run, hold.batch, troubles)


def remaining(batch: Batch) -> Range:
    """The part of a range that is still to do."""
    return Range(batch.at or batch.lo, batch.hi)
