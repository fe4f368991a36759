"""How far a batch is, kept in its row chunk by chunk, so that nobody does it or counts it again (S6b).

A note is written when all that it tells is acknowledged by the majority, and waits for nothing itself: one that is lost, or taken
back by a failover, means only that more is done again (hole H62). One that comes too late meets another owner (hole H63).
"""

import time
from dataclasses import dataclass, field

from bson.timestamp import Timestamp

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batch_progress import Stretch
from whimbrel.domain.runs.batches import Piece, Range
from whimbrel.engine.executing.chunk_costs import ChunkCosts
from whimbrel.engine.executing.filter_mark import keep_counts_before
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.outcome_tally import OutcomeTally
from whimbrel.engine.executing.settling import count_pieces, failed_in_piece
from whimbrel.engine.protocol_steps import Step
from whimbrel.errors import LeaseLost, Transient
from whimbrel.ports import Documents, Ledger


@dataclass(slots=True)
class ProgressNotes:
    """The progress of one claim. `share`: of the batch's time that notes may take."""

    documents: Documents
    ledger: Ledger
    lease: Lease
    tally: OutcomeTally
    chunk_costs: ChunkCosts
    share: float
    step: Step
    _end: int = 0  # of the stretch in hand
    _since: Timestamp | None = field(init=False)  # before anything of what is not known was sent
    _reached: Key | None = None
    _worked: float = field(default_factory=time.monotonic)  # since when this time is not yet accounted for

    def __post_init__(self) -> None:
        self._since = self.lease.batch.began

    def begin(self, end: int) -> None:
        """Take the next stretch in hand, up to this chunk."""
        self.lease.untouched = False
        self._end, self._reached = end, None
        if self.tally.fresh:
            self._since = self._now
        self.tally.begin()

    @property
    def rest(self) -> Piece:
        """What of the stretch in hand is not known to be done."""
        progress = self.lease.known
        return self.lease.batch.piece(progress.chunks, self._end, progress.at)

    def reached(self, key: Key) -> None:
        """The stretch in hand is done through this document."""
        self._reached, self.tally.open = key, False
        if self._divisible and self._due:
            began = time.monotonic()
            self._close(key)
            self._note(began)

    def finish(self) -> None:
        """The stretch in hand is done."""
        self._close(None)
        if self._due:
            self._note(time.monotonic())

    def suspect(self, key: Key) -> None:
        """Say that a document is in hand alone, before it may kill the process."""
        self.ledger.batches.suspect(self.lease.batch, key, self.lease.known)

    def cleared(self, at: Key | None) -> None:
        """That document is done. `at`: it, where the stretch is done through it."""
        if at is not None:
            self._reached, self.tally.open = at, False
            if self._divisible:
                self._close(at)
        self.ledger.batches.suspect(self.lease.batch, None, self.lease.known)

    def give_back(self) -> None:
        """The batch is stopped between two chunks. Where all that was sent is told, the next claim begins behind it."""
        if self.tally.clean and not self.tally.open:
            if self._reached is not None and self._divisible:
                self._close(self._reached)
            self.lease.untouched = self.tally.empty
        if not self.lease.untouched:
            keep_counts_before(
                self.documents, self.ledger, self.lease, self._since
            )  # it may be long until it goes on

    @property
    def _divisible(self) -> bool:
        """Whether what came of a part of the stretch can be told: not after a crash where nothing in the documents does."""
        return (self.tally.clean or self.lease.run.marking.path is not None) and self.tally.left is None

    @property
    def _due(self) -> bool:
        now = time.monotonic()
        self.chunk_costs.earn((now - self._worked + 1e-9) * self.share)
        self._worked = now
        return self.chunk_costs.affords_note

    @property
    def _now(self) -> Timestamp | None:
        """A time of the cluster behind all that this claim has done."""
        times = [at for at in (self.lease.batch.began, self.documents.time) if at is not None]
        return max(times, default=None)

    def _close(self, at: Key | None) -> None:
        lease, tally, progress = self.lease, self.tally, self.lease.known
        counts, failures, inferred = tally.counts, tally.failed, False
        if not tally.clean:
            piece = _through(self.rest, at)
            if tally.broken:
                # When a majority has this write, it has all earlier ones of the batch too, also those that got no answer.
                lease.renew(self.ledger.batches)
            counts, inferred = count_pieces(
                self.documents,
                self.ledger,
                lease.run,
                lease.batch,
                progress,
                [(self._end, piece)],
                self._since,
            )
            failures = failed_in_piece(self.ledger, lease.run, lease.batch, piece)
        part = progress.part or Stretch(self._end)
        left = None if tally.left is None else dict(tally.left)
        stretch = Stretch(self._end, part.counts + counts, part.failed + failures, left)
        lease.known = progress.through(stretch, at, inferred=inferred)
        tally.take_out()
        self._reached = None

    def _note(self, began: float) -> None:
        progress = self.lease.known
        since = self._now if self.tally.fresh and (progress.at is None or self.tally.clean) else None
        try:
            self.documents.check_identity()  # what was read, and found to be nothing, was of the run's collection
            self.ledger.batches.note(self.lease.batch, progress, since=since)
        except LeaseLost:
            self.lease.lost = True
            raise
        except Transient:
            return  # less is known than was done
        finally:
            self._worked = time.monotonic()
            self.chunk_costs.spend(self._worked - began)
        self.step("S6b")


def _through(piece: Piece, at: Key | None) -> Piece:
    if at is None:
        return piece
    return Range(piece.lo, at) if isinstance(piece, Range) else piece[: piece.index(at) + 1]
