"""How many documents a statement may have, from how long statements take and how large documents are.

Sized by time because a long statement holds its locks, its ticket and the cache's memory for as long, and answers a pause or the gate late.
0.5 s is the `--chunk-time` of pt-online-schema-change.
"""

from dataclasses import dataclass

from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.domain.runs.sizing import ChunkLimit

TARGET = 0.5  # seconds of a statement
BYTES = 8 * 1024 * 1024  # of the documents of a statement
FEWEST = 10  # documents, by time
SMOOTHING = 0.3  # the weight of the newest statement in the average
GROWTH = 1.5  # from one statement to the next, at most
SHRINK = 0.5  # at once, where a statement took too long or met conflicts
CONFLICTS = 0.01  # the share of documents that may meet a conflict
# Documents: where the application writes everywhere, smaller statements meet no fewer conflicts.
FEWEST_WITH_CONFLICTS = 100
TELLING = 0.5  # the part of the size that a statement must have changed for its time to tell something


def by_bytes(document_bytes: int) -> int:
    """Returns how many documents of this mean size a chunk may have; 1,000 where the size is not known (0)."""
    return max(1, min(CHUNK_DOCUMENTS, BYTES // document_bytes)) if document_bytes else CHUNK_DOCUMENTS


def chunks_by_bytes(document_bytes: int) -> int:
    """Returns how many planned chunks one statement may be about."""
    return max(1, BYTES // (document_bytes * CHUNK_DOCUMENTS)) if document_bytes else 2**31


@dataclass(slots=True)
class ChunkSize:
    """Of one run, as a process's slots have learned it. `document_bytes`: the mean of its collection; 0: not known."""

    document_bytes: int = 0
    _by_time: float = float(CHUNK_DOCUMENTS)  # documents
    _rate: float | None = None  # documents a second

    @property
    def planned(self) -> int:
        """How many documents a chunk has, as planned."""
        return by_bytes(self.document_bytes)

    @property
    def documents(self) -> int:
        """How many documents the next statement may have; a planned chunk has never more than 1,000."""
        return min(self.planned, int(self._by_time))

    @property
    def limit(self) -> ChunkLimit:
        """What bounds it."""
        if self.documents < self.planned:
            return "time"
        return "planned" if self.planned == CHUNK_DOCUMENTS else "bytes"

    def record(self, documents: int, seconds: float, *, conflicts: int = 0) -> None:
        """Learns from a statement that changed so many documents, without what it waited before. One that changed few tells nothing of its time."""
        if documents >= FEWEST_WITH_CONFLICTS and conflicts / documents > CONFLICTS:
            self.shrink(FEWEST_WITH_CONFLICTS)
            return
        if documents < TELLING * self.documents:
            return
        rate = documents / max(seconds, 0.0001)
        self._rate = rate if self._rate is None else SMOOTHING * rate + (1 - SMOOTHING) * self._rate
        self._by_time = min(
            float(CHUNK_DOCUMENTS), max(float(FEWEST), min(self._rate * TARGET, self._by_time * GROWTH))
        )

    def shrink(self, fewest: int = 1) -> None:
        """Halves the size at once: a statement ran out of time, or met too many conflicts."""
        self._by_time = max(float(fewest), self.documents * SHRINK)
        self._rate = None
