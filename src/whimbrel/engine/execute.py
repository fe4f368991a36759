"""Executing a claimed batch from its first chunk to its settlement (S4 to S8)."""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from whimbrel.domain.batches import Batch, Piece, Range
from whimbrel.domain.failures import death
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import eligible
from whimbrel.engine.adopting import adopt
from whimbrel.engine.declarative import ByUpdate
from whimbrel.engine.eligibility import Selection
from whimbrel.engine.filter_mark import check_filter_is_false, keep_before
from whimbrel.engine.function import ByFunction
from whimbrel.engine.lease import Lease, Stopped
from whimbrel.engine.pace import Pace
from whimbrel.engine.pages import Pages
from whimbrel.engine.patience import Patience
from whimbrel.engine.recording import Recorder, record
from whimbrel.engine.settling import settle
from whimbrel.engine.steps import Step
from whimbrel.engine.transform import Transform
from whimbrel.errors import DefinitionInvalid
from whimbrel.ports import Documents, Ledger

SHORT = 0.1  # seconds that a statement takes after which the next may be twice as large


@dataclass(frozen=True, slots=True)
class Execution:
    """A claimed batch, worked off chunk by chunk in one of the two ways to write."""

    documents: Documents
    ledger: Ledger
    lease: Lease
    selection: Selection
    pace: Pace
    patience: Patience
    way: ByUpdate | ByFunction

    def prepare(self) -> None:
        """What a claim that was lost, or a process that died, has left to do."""
        batch = self.lease.batch
        if batch.suspect is not None:
            self._charge(batch.suspect)
        if (
            batch.phase == "processing"
            and batch.ids is None
            and not self.documents.served(self.selection.eligible)
        ):
            self.pace.tally.left = {}
        if batch.claims > 1:
            self.keep_before()

    def keep_before(self) -> None:
        keep_before(self.documents, self.ledger, self.lease)

    def _charge(self, suspect: Key) -> None:
        """A process died alone with this document in hand: that is an attempt of the document's.

        Unless it was done by then, or its failure was recorded.
        """
        run, batch = self.lease.run, self.lease.batch
        rows = self.ledger.failures.unresolved(run, [suspect])
        recorded = any(row.run == run.id and row.batch == batch.token for row in rows)
        still = not recorded and self.documents.read_keys([suspect], eligible(run, batch.phase, retry=True))
        if still:
            record(self.ledger, self.lease, [death(suspect)])
        self.lease.batch = replace(batch, at=suspect if batch.ids is None else batch.at, suspect=None)
        self.ledger.batches.note(self.lease.batch, at=self.lease.batch.at)

    def work_off(self) -> None:
        for piece in self._pieces():
            self._work_off(piece)

    def _pieces(self) -> Iterator[Piece]:
        """What is worked off one after another: a function asks for the documents of a batch by itself, but in a sweep, which has few."""
        batch, declarative = self.lease.batch, self.lease.run.declarative
        if batch.empty:
            return
        if batch.ids is None and not declarative and batch.phase not in ("sweep", "processing"):
            yield remaining(batch)
        elif batch.ids is None and declarative and batch.phase == "pending":
            yield from self._together(batch.ranges)
        else:
            yield from (
                each for each in batch.pieces if not isinstance(each, Range) or not _is_through(batch, each)
            )

    def _together(self, chunks: Sequence[Range]) -> Iterator[Range]:
        """Chunks of an update, several in one statement while such statements are short: each waits for the journal once."""
        at, most = 0, 2
        while at < len(chunks):
            part = chunks[at : at + (1 if self.pace.rate is not None or self.lease.batch.solo else most)]
            began = time.monotonic()
            yield Range(part[0].lo, part[-1].hi)
            at, most = at + len(part), most * 2 if time.monotonic() - began < SHORT else 1

    def _work_off(self, piece: Piece) -> None:
        def act() -> None:
            adopting = self.lease.batch.phase == "processing"
            if adopting and not adopt(self.documents, self.ledger.batches, self.selection, piece):
                return
            self._exclude(piece)
            if isinstance(piece, Range):
                self.way.change_range(piece)
            else:
                self.way.change_keys(self._attempts(piece))

        self.patience.until_done(act, account=lambda: self.way.account(piece))

    def _exclude(self, piece: Piece) -> None:
        """Documents with a failure of this run wait for their retry; only a batch that is new, of the first phase, cannot have met one."""
        batch = self.lease.batch
        met = batch.claims > 1 or batch.found or not self.pace.tally.clean or batch.phase != "pending"
        self.selection.exclude_only(
            self.ledger.failures.excluded(self.lease.run.id, piece) if met and not batch.retry else ()
        )

    def _attempts(self, keys: Sequence[Key]) -> dict[Key, int]:
        """Which of these documents this batch has still to try, and the how-manieth try that is."""
        batch = self.lease.batch
        if not batch.retry:
            return dict.fromkeys(keys, 1)
        rows = self.ledger.failures.of(batch.run, keys)
        return {row.key: row.attempt + 1 for row in rows if row.batch != batch.token}


def execute(
    pace: Pace,
    documents: Documents,
    ledger: Ledger,
    definition: Definition,
    transform: Transform,
    *,
    turn: threading.Lock,
    step: Step,
) -> None:
    """Work a batch off and settle it.

    Transient troubles are waited out here for as long as the lease holds. Raises Stopped, LeaseLost or Systemic.
    """
    lease, tally = pace.lease, pace.tally
    tally.clean = lease.batch.claims == 1
    selection, patience = Selection(lease, tally), Patience(documents, pace)
    recorder = Recorder(documents, ledger, lease, selection, tally, step)
    way: ByUpdate | ByFunction
    if lease.run.declarative:
        if definition.update is None:
            raise DefinitionInvalid(f"Migration {definition.name!r} has no update.")
        way = ByUpdate(definition.update, documents, lease, selection, pace, patience, recorder, turn, step)
    else:
        pages = Pages(documents, selection, pace, definition.concurrency)
        way = ByFunction(
            definition, transform, pages, documents, ledger, lease, selection, pace, recorder, step
        )
    it = Execution(documents, ledger, lease, selection, pace, patience, way)
    pace.aging = it.keep_before
    patience.until_done(it.prepare)
    try:
        it.work_off()
    except Stopped:
        it.keep_before()  # it may be long until it goes on
        raise
    counts = patience.until_done(lambda: settle(documents, ledger, selection, step))
    if lease.run.marking.path is None and counts.changed:
        check_filter_is_false(documents, ledger, lease, counts)


def remaining(batch: Batch) -> Range:
    """The part of a range that is still to do."""
    return Range(batch.at or batch.lo, batch.hi)


def _is_through(batch: Batch, piece: Range) -> bool:
    """A solo batch knows how far it is; keys are compared by their places among the cuts."""
    return batch.at is not None and piece.hi is not None and batch.at in batch.cuts and (
        batch.cuts.index(piece.hi) <= batch.cuts.index(batch.at)
    )  # fmt: skip
