"""What the slots of a process have learned: what a note costs, and how many chunks of a run are worked off together."""

from dataclasses import dataclass, field

SAVED = 0.02  # seconds of notes that may be saved up: so a run's first chunks are noted one by one
OWED = 0.5  # seconds of notes that may be owed at most: one that hung does not stop them for long
FIRST_COST = 0.0005  # seconds that a note takes, before one was written
SHORT = 0.1  # seconds that chunks which are worked off together take, about
FIRST_CHUNKS = 2
RUNS = 64  # that are remembered


@dataclass(slots=True)
class ChunkCosts:
    """Shared by threads without a lock: what they lose of it to one another is little, and learned again."""

    _saved: float = SAVED
    _cost: float = FIRST_COST
    _chunks: dict[str, int] = field(default_factory=dict)

    def earn(self, seconds: float) -> None:
        """So much time was worked for notes."""
        self._saved = min(SAVED, self._saved + seconds)

    @property
    def affords_note(self) -> bool:
        return self._saved >= min(self._cost, SAVED)

    def spend(self, seconds: float) -> None:
        """A note has taken so long."""
        self._saved, self._cost = max(-OWED, self._saved - seconds), (self._cost + seconds) / 2

    def chunks(self, run: str) -> int:
        """How many chunks of a run make a stretch."""
        return self._chunks.get(run, FIRST_CHUNKS)

    def took(self, run: str, chunks: int, seconds: float) -> None:
        """So many chunks, together, took so long."""
        if len(self._chunks) >= RUNS:
            self._chunks = {}
        fitting = int(SHORT * chunks / max(seconds, 0.0001))
        self._chunks[run] = max(1, min(fitting, 2 * self.chunks(run)))
