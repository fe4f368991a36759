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

    Either a range, with `cuts` that part it into chunks of at most 1,000 documents as planned (the last
    cut is the end of the range), or `ids`: the documents of a retry, those that a run over ids was given, or those
    that planning found by an index (`found`).
    """

    run: str
    seq: int
    leg: int
    phase: Phase
    lo: Key | None = None
    cuts: tuple[Key, ...] = ()
    ids: tuple[Key, ...] | None = None
    found: bool = (
        False  # planning found the ids, which satisfied the filter then, or that its range holds some
    )
    through: int = 0  # documents planned in this leg, with this batch
    source: int | None = None  # the last batch of an earlier phase whose range this one has
    last: bool = False  # planning of the leg's ranges ended with this one
    estimated: int = 0
    status: BatchStatus = BatchStatus.QUEUED
    owner: str | None = None
    lease_until: datetime | None = None
    claimed_at: datetime | None = None
    claims: int = 0
    takeovers: int = 0
    solo: bool = False
    untouched: int = 0  # the last of its claims behind which nothing was sent but for what `progress` tells
    progress: Progress = field(default_factory=Progress)
    suspect: Key | None = None  # in a solo batch: the document in hand
    began: Timestamp | None = (
        None  # a time of the cluster before anything was sent for what is behind `progress`; None: a stand-alone server has none
    )
    before: Mapping[int, int] | None = (
        None  # mark "filter", after a crash: eligible documents at that time, by the end of each piece of the rest
    )
    counts: Counts = field(default_factory=Counts)
    inferred: bool = False
    left: Mapping[str, int] | None = (
        None  # of the phase processing: documents that other phases are to take, by status
    )
    tally: MarkTally | None = None  # of a verification
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
        """All that it is about: a range, or the documents it names."""
        return self.range if self.ids is None else self.ids

    @property
    def retry(self) -> bool:
        """Whether its documents have failed before, and are tried again."""
        return self.ids is not None and self.phase == "failed" and not self.found

    @property
    def empty(self) -> bool:
        return not self.ids and not self.cuts

    @property
    def fresh(self) -> bool:
        """Whether nothing was sent before this claim, or the next one, but for what `progress` tells."""
        return self.untouched == self.claims - (self.status is BatchStatus.RUNNING)

    @property
    def chunks(self) -> int:
        """How many there are: ranges as they were planned, or so many of the ids."""
        return len(self.cuts) if self.ids is None else ceil(len(self.ids) / CHUNK_DOCUMENTS)

    @property
    def chunks_done(self) -> int:
        """As far as it is known, while it is worked on."""
        return self.chunks if self.status is BatchStatus.DONE else self.progress.chunks

    @property
    def known(self) -> Counts:
        """What came of its documents, as far as it is known, while it is worked on."""
        return (
            self.counts if self.status in (BatchStatus.DONE, BatchStatus.CANCELLED) else self.progress.counts
        )

    def piece(self, first: int, end: int, after: Key | None = None) -> Piece:
        """The chunks from `first` on, before `end`, as one. `after`: only what comes behind this document of them."""
        if self.ids is None:
            return Range(after or (self.cuts[first - 1] if first else self.lo), self.cuts[end - 1])
        named = self.ids[first * CHUNK_DOCUMENTS : end * CHUNK_DOCUMENTS]
        return named if after is None else named[named.index(after) + 1 :]

    def rest(self, progress: Progress) -> Iterator[tuple[int, Piece]]:
        """What is not known to be done: the rest of a stretch, then chunk by chunk, each with the number of the last chunk.

        Where it is known how many documents of them were eligible `before`, these pieces.
        """
        done = progress.chunks
        if progress.part is not None:
            yield progress.part.end, self.piece(done, progress.part.end, progress.at)
            done = progress.part.end
        for end in sorted(self.before) if self.before else range(done + 1, self.chunks + 1):
            if end > done:
                yield end, self.piece(done, end)
                done = end

    @property
    def ranges(self) -> list[Range]:
        """Its chunks, as they were planned."""
        return [Range(lo, hi) for lo, hi in pairwise((self.lo, *self.cuts))]


def estimated_documents(run: Run, seq: int, **fields: Any) -> Batch:
    """A batch of the run's present leg. One without documents is done as soon as it is there, and only says where planning is."""
    batch = Batch(run=run.id, seq=seq, leg=run.leg, phase=run.phase, **fields)
    return replace(batch, status=BatchStatus.DONE) if batch.empty else batch


@dataclass(frozen=True, slots=True)
class BatchPointer:
    """A batch that waits, as far as a broker needs to know it."""

    run: str
    seq: int
    retry: bool

    @property
    def token(self) -> str:
        return f"{self.run}.{self.seq}"


class BatchSums(NamedTuple):
    """What there is of a run behind one of its batches."""

    counts: Counts = Counts()  # of the settled ones
    settled: int = 0  # how many these are
    last: int = 0  # the number of the last of all; 0: there is none
    begun: Counts = Counts()  # what is known to be done of those that are not settled, but for retries
    now: datetime | None = None  # by the server's clock; None where there is none
    in_hand: int = 0  # documents of the batches that are worked on, but for retries


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOutline:
    """A batch without its keys: what adding up and tiling need."""

    tile: Tile
    status: BatchStatus
    counts: Counts
    inferred: bool
    taken_over: bool = False  # from a worker that was lost

    @property
    def seq(self) -> int:
        return self.tile.seq
