"""What the slots of a process have learned: what a note costs, and how many chunks of a run to work off together."""

from dataclasses import dataclass, field

from whimbrel.domain.runs.caution import Caution
from whimbrel.domain.runs.chunk_size import ChunkSize
from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.domain.runs.run import Run

SAVED = 0.02  # seconds that may be saved up for notes: so a run's first chunks are noted one by one
OWED = 0.5  # seconds that notes may overdraw at most: one note that hung does not stop them for long
FIRST_COST = 0.0005  # seconds that a note is assumed to take before one was written
SHORT = 0.1  # seconds that a stretch of several chunks should take
FIRST_CHUNKS = 2
RUNS = 64  # remembered at most


@dataclass(slots=True)
class ChunkCosts:
    """Shared by threads without a lock: the little that they overwrite of one another's is learned again."""

    _saved: float = SAVED
    _cost: float = FIRST_COST
    _chunks: dict[str, int] = field(default_factory=dict)
    _sizes: dict[str, ChunkSize] = field(default_factory=dict)
    _cautions: dict[str, Caution] = field(default_factory=dict)

    def earn(self, seconds: float) -> None:
        """Adds time that the batch's work has earned for notes."""
        self._saved = min(SAVED, self._saved + seconds)

    @property
    def affords_note(self) -> bool:
        return self._saved >= min(self._cost, SAVED)

    def spend(self, seconds: float) -> None:
        """Subtracts the time that a note has taken."""
        self._saved, self._cost = max(-OWED, self._saved - seconds), (self._cost + seconds) / 2

    def size(self, run: Run) -> ChunkSize:
        """Returns how many documents a statement of a run may have, as the process's slots learn it. It begins where the run has been before."""
        size = self._sizes.get(run.id)
        if size is None:
            if len(self._sizes) >= RUNS:
                self._sizes = {}
            chunk = run.sizing.chunk if run.sizing.limit == "time" else None
            size = self._sizes[run.id] = ChunkSize(run.document_bytes, float(chunk or CHUNK_DOCUMENTS))
        return size

    def caution(self, run: str) -> Caution:
        """Returns how carefully the process's slots have gone where a run's documents failed."""
        if run not in self._cautions and len(self._cautions) >= RUNS:
            self._cautions = {}
        return self._cautions.setdefault(run, Caution())

    def chunks(self, run: str) -> int:
        """Returns how many chunks of a run make a stretch."""
        return self._chunks.get(run, FIRST_CHUNKS)

    def record(self, run: str, chunks: int, seconds: float) -> None:
        """Learns how long so many chunks took together."""
        if len(self._chunks) >= RUNS:
            self._chunks = {}
        fitting = int(SHORT * chunks / max(seconds, 0.0001))
        self._chunks[run] = max(1, min(fitting, 2 * self.chunks(run)))
