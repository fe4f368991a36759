"""Reads the documents of a batch for a function: as many at once as a chunk's time and bytes allow."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.protocol_times import CHUNK_BYTES, CHUNK_DOCUMENTS
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.engine.executing.pace import Pace
from whimbrel.errors import TooSlow
from whimbrel.ports import Documents

FIRST_PAGE = 100  # documents, while their size is unknown


@dataclass(slots=True)
class Pages:
    """Pages of eligible documents in `_id` order. `concurrency`: calls that a migration may have under way at once."""

    documents: Documents
    selection: BatchSelection
    pace: Pace
    concurrency: int
    _limit: int = field(init=False)

    def __post_init__(self) -> None:
        self._limit = self.concurrency if self.pace.lease.run.claim else FIRST_PAGE

    @property
    def limit(self) -> int:
        """Returns how many documents the next page may have."""
        return 1 if self.pace.lease.batch.solo else min(self._limit, self.pace.chunk)

    def of_range(self, where: Range) -> Iterator[Sequence[bytes]]:
        """Yields the eligible documents of a range. What takes too long is read in smaller pages, and then in smaller ranges."""
        span: int | None = None
        while True:
            self.pace.between_chunks()
            part = where
            try:
                if span is not None:
                    part = Range(where.lo, self.documents.nth(where, span) or where.hi)
                limit = self.limit
                if limit == CHUNK_DOCUMENTS:  # reading one more shows that a planned chunk has ended
                    limit += 1
                page = self.documents.read(part, self.selection.eligible, limit)
            except TooSlow:
                if span == 1:
                    raise
                self._limit, span = max(1, self._limit // 4), max(1, (span or CHUNK_DOCUMENTS) // 4)
                continue
            if page.documents:
                yield page.documents
            if page.end and part.hi == where.hi:
                return
            where = Range(part.hi if page.end else Key.of_document(page.documents[-1]), where.hi)

    def of_keys(self, keys: Sequence[Key]) -> Iterator[Sequence[bytes]]:
        """Yields those of these documents that are still eligible."""
        after: Key | None = None
        while True:
            self.pace.between_chunks()
            try:
                page = self.documents.read_named(keys, self.selection.eligible, after)
            except TooSlow:
                if len(keys) == 1:
                    raise
                half = len(keys) // 2
                yield from self.of_keys(keys[:half])
                yield from self.of_keys(keys[half:])
                return
            if page.documents:
                yield page.documents
            if page.end:
                return
            after = Key.of_document(page.documents[-1])

    def adapt(self, documents: Sequence[bytes], reached: int, seconds: float) -> None:
        """Sizes the next page by how long `reached` of these documents took: about what two chunks reach, by size and time."""
        mean = sum(map(len, documents)) / len(documents)
        fitting = max(1, min(CHUNK_DOCUMENTS, int(CHUNK_BYTES / mean)))
        chunk = self.pace.times.chunk
        if not self.pace.lease.run.claim:
            self._limit = min(fitting, max(1, int(2 * chunk * reached / max(seconds, 0.001))))
        else:
            self._limit = min(fitting, self._limit * 2 if seconds < chunk / 2 else max(1, self._limit // 2))
