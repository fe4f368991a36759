"""A batch: a slice of a phase, the unit of claim, retry and accounting."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from math import ceil
from typing import Any, NamedTuple

from bson.timestamp import Timestamp

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batch_progress import Progress
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.domain.runs.run import Counts, Phase, Run
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.domain.runs.tiling import Tile
from whimbrel.domain.runs.verification import MarkTally

SOLO_AFTER = 2  # lost leases after which a batch runs alone in its process (hole H10)


@dataclass(frozen=True, slots=True)
class Range:
    """`(lo, hi]` on `_id`. `lo` None is open to below: MinKey included. `hi` None holds nothing at all."""

    lo: Key | None
    hi: Key | None


Piece = Range | Sequence[Key]
"""What one statement is about: a range, or documents by their keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """A row of the ledger.

    Either a range, with `cuts` that divide it into chunks of at most 1,000 documents as planned (the last
    cut is the end of the range), or `ids`: the documents of a retry, those given to a run over ids, or those
    that planning found by an index (`located`).
    """

    run: str
    seq: int
    leg: int
    phase: Phase
    lo: Key | None = None
    cuts: tuple[Key, ...] = ()
    ids: tuple[Key, ...] | None = None
    # Planning found the ids, which satisfied the filter then; or that its range holds some documents.
    located: bool = False
    through: int = 0  # documents planned in this leg up to and including this batch
    source: int | None = None  # the last batch of an earlier phase whose range this batch covers
    last: bool = False  # planning of the leg's ranges ended with this batch
    estimated: int = 0
    status: BatchStatus = BatchStatus.QUEUED
    owner: str | None = None
    lease_until: datetime | None = None
    claimed_at: datetime | None = None
    claims: int = 0
    takeovers: int = 0
    solo: bool = False
    untouched: int = 0  # the last claim before which nothing was sent except what `progress` tells
    progress: Progress = field(default_factory=Progress)
    suspect: Key | None = None  # in a solo batch: the document being worked on
    # A time of the cluster before anything was sent that `progress` does not tell; None: a stand-alone server has none.
    began: Timestamp | None = None
    # Mark "filter", after a crash: eligible documents at that time, by the end of each remaining piece.
    before: Mapping[int, int] | None = None
    counts: Counts = field(default_factory=Counts)
    inferred: bool = False
    # In the phase processing: documents that other phases have to take, by status.
    left: Mapping[str, int] | None = None
    tally: MarkTally | None = None  # in a verification
    worker: str | None = None
    settled_at: datetime | None = None

    @property
    def token(self) -> str:
        return f"{self.run}.{self.seq}"

    @property
    def variables(self) -> dict[str, Any]:
        """What an update of this batch may use as $$name."""
        return {
            "run": self.run, "batch": self.token, "phase": self.phase, "claimed_at": self.claimed_at,
        }  # fmt: skip

    @property
    def hi(self) -> Key | None:
        return self.cuts[-1] if self.cuts else None

    @property
    def range(self) -> Range:
        return Range(self.lo, self.hi)

    @property
    def extent(self) -> Range | tuple[Key, ...]:
        """All documents of the batch: a range, or the keys it names."""
        return self.range if self.ids is None else self.ids

    @property
    def retry(self) -> bool:
        """Whether its documents have failed before, and are tried again."""
        return self.ids is not None and self.phase == "failed" and not self.located

    @property
    def empty(self) -> bool:
        return not self.ids and not self.cuts

    @property
    def fresh(self) -> bool:
        """Whether nothing was sent before this claim, or the next one, except what `progress` tells."""
        return self.untouched == self.claims - (self.status is BatchStatus.RUNNING)

    @property
    def chunks(self) -> int:
        """How many chunks it has: as its ranges were planned, or so many of the ids."""
        return len(self.cuts) if self.ids is None else ceil(len(self.ids) / CHUNK_DOCUMENTS)

    @property
    def chunks_done(self) -> int:
        """How many chunks are done, as far as is known while it is worked on."""
        return self.chunks if self.status is BatchStatus.DONE else self.progress.chunks

    @property
    def known(self) -> Counts:
        """What became of its documents, as far as is known while it is worked on."""
        return (
            self.counts if self.status in (BatchStatus.DONE, BatchStatus.CANCELLED) else self.progress.counts
        )

    def piece(self, first: int, end: int, after: Key | None = None) -> Piece:
        """Returns the chunks from `first` to before `end` as one piece. `after`: only what comes behind this document."""
        if self.ids is None:
            return Range(after or (self.cuts[first - 1] if first else self.lo), self.cuts[end - 1])
        named = self.ids[first * CHUNK_DOCUMENTS : end * CHUNK_DOCUMENTS]
        return named if after is None else named[named.index(after) + 1 :]

    def remaining_pieces(self, progress: Progress) -> Iterator[tuple[int, Piece]]:
        """Yields what is not known to be done: the rest of a stretch, then chunk by chunk, each with the number of its last chunk.

        Where it is known how many documents of these pieces were eligible `before`, uses those pieces.
        """
        done = progress.chunks
        if progress.part is not None:
            yield progress.part.end, self.piece(done, progress.part.end, progress.last_key)
            done = progress.part.end
        for end in sorted(self.before) if self.before else range(done + 1, self.chunks + 1):
            if end > done:
                yield end, self.piece(done, end)
                done = end

    @property
    def ranges(self) -> list[Range]:
        """Its chunks, as they were planned."""
        return [Range(lo, hi) for lo, hi in pairwise((self.lo, *self.cuts))]


def batch_of_leg(run: Run, seq: int, **fields: Any) -> Batch:
    """Returns a batch of the run's current leg. A batch without documents is done as soon as it exists, and only tells how far planning is."""
    batch = Batch(run=run.id, seq=seq, leg=run.leg, phase=run.phase, **fields)
    return replace(batch, status=BatchStatus.DONE) if batch.empty else batch


@dataclass(frozen=True, slots=True)
class BatchPointer:
    """A waiting batch, as far as a broker needs to know it."""

    run: str
    seq: int
    retry: bool

    @property
    def token(self) -> str:
        return f"{self.run}.{self.seq}"


class BatchSums(NamedTuple):
    """Sums over a run's batches behind one of them."""

    counts: Counts = Counts()  # of the settled batches
    settled: int = 0  # how many batches are settled
    last: int = 0  # the number of the last batch; 0: there is none
    begun: Counts = Counts()  # what is known to be done of unsettled batches, without retries
    now: datetime | None = None  # by the server's clock; None where there is none
    in_hand: int = 0  # documents of the batches that are being worked on, without retries


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOutline:
    """A batch without its keys: what folding and tiling need."""

    tile: Tile
    status: BatchStatus
    counts: Counts
    inferred: bool
    taken_over: bool = False  # from a lost worker
    chunk_times: ChunkTimes = field(default_factory=ChunkTimes)

    @property
    def seq(self) -> int:
        return self.tile.seq
