"""Keeps in a batch's row how far it is, chunk by chunk, so that nobody does it or counts it again (S6b).

A note is written when all that it tells is acknowledged by the majority, and waits for nothing itself: a note that is lost, or rolled
back by a failover, only means that more is done again (hole H62). A note that comes too late meets another owner (hole H63).
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
    """The progress of one claim. `share`: the fraction of the batch's time that notes may take."""

    documents: Documents
    ledger: Ledger
    lease: Lease
    tally: OutcomeTally
    chunk_costs: ChunkCosts
    share: float
    step: Step
    _end: int = 0  # of the current stretch
    _since: Timestamp | None = field(init=False)  # before anything was sent that progress does not tell
    _reached: Key | None = None
    _accounted_until: float = field(default_factory=time.monotonic)  # later time has not earned notes yet

    def __post_init__(self) -> None:
        self._since = self.lease.batch.began

    def begin(self, end: int) -> None:
        """Starts the next stretch, up to this chunk."""
        self.lease.untouched = False
        self._end, self._reached = end, None
        if self.tally.fresh:
            self._since = self._now
        self.tally.begin()

    @property
    def remaining(self) -> Piece:
        """The part of the current stretch that is not known to be done."""
        progress = self.lease.known
        return self.lease.batch.piece(progress.chunks, self._end, progress.last_key)

    def reached(self, key: Key) -> None:
        """Tells that the current stretch is done through this document."""
        self._reached, self.tally.open = key, False
        if self._divisible and self._due:
            began = time.monotonic()
            self._close_part(key)
            self._write_note(began)

    def finish(self) -> None:
        """Tells that the current stretch is done."""
        self._close_part(None)
        if self._due:
            self._write_note(time.monotonic())

    def suspect(self, key: Key) -> None:
        """Names a document that is processed alone, before it may kill the process."""
        self.ledger.batches.suspect(self.lease.batch, key, self.lease.known)

    def clear_suspect(self, through: Key | None) -> None:
        """Tells that this document is done. `through`: its key, where the stretch is done through it."""
        if through is not None:
            self._reached, self.tally.open = through, False
            if self._divisible:
                self._close_part(through)
        self.ledger.batches.suspect(self.lease.batch, None, self.lease.known)

    def give_back(self) -> None:
        """Prepares giving back a batch between two chunks. Where all that was sent is told, the next claim begins behind it."""
        if self.tally.clean and not self.tally.open:
            if self._reached is not None and self._divisible:
                self._close_part(self._reached)
            self.lease.untouched = self.tally.empty
        if not self.lease.untouched:
            # It may be long until the batch continues.
            keep_counts_before(self.documents, self.ledger, self.lease, self._since)

    @property
    def _divisible(self) -> bool:
        """Whether the outcome of a part of the stretch can be told: not after a crash where nothing in the documents tells it."""
        return (self.tally.clean or self.lease.run.marking.path is not None) and self.tally.left is None

    @property
    def _due(self) -> bool:
        now = time.monotonic()
        self.chunk_costs.earn((now - self._accounted_until + 1e-9) * self.share)
        self._accounted_until = now
        return self.chunk_costs.affords_note

    @property
    def _now(self) -> Timestamp | None:
        """A time of the cluster after all that this claim has done."""
        times = [moment for moment in (self.lease.batch.began, self.documents.time) if moment is not None]
        return max(times, default=None)

    def _close_part(self, through: Key | None) -> None:
        lease, tally, progress = self.lease, self.tally, self.lease.known
        counts, failures, inferred = tally.counts, tally.failed, False
        if not tally.clean:
            piece = _through(self.remaining, through)
            if tally.broken:
                # When the majority has this write, it has all earlier writes of the batch too, also those without an answer.
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
        lease.known = progress.through(stretch, through, inferred=inferred)
        tally.take_out()
        self._reached = None

    def _write_note(self, began: float) -> None:
        progress = self.lease.known
        since = self._now if self.tally.fresh and (progress.last_key is None or self.tally.clean) else None
        try:
            self.documents.check_identity()  # an empty read must have been of the run's collection
            self.ledger.batches.note(self.lease.batch, progress, since=since)
        except LeaseLost:
            self.lease.lost = True
            raise
        except Transient:
            return  # less is known than was done, which does no harm
        finally:
            self._accounted_until = time.monotonic()
            self.chunk_costs.spend(self._accounted_until - began)
        self.step("S6b")


def _through(piece: Piece, through: Key | None) -> Piece:
    if through is None:
        return piece
    return Range(piece.lo, through) if isinstance(piece, Range) else piece[: piece.index(through) + 1]
