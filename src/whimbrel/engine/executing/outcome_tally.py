"""What became of documents, as far as the replies to one claim's statements tell."""

from collections import Counter
from dataclasses import dataclass, field

from whimbrel.domain.migrations.marks import CHANGED, SKIPPED, UNCHANGED
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.run import Counts


@dataclass(slots=True)
class OutcomeTally:
    """The numbers of the current part: of a stretch of the batch, what is not counted in its progress yet.

    They hold while it is clean: nobody else has sent anything for it, and no statement has met an error.
    """

    fresh: bool = True  # whether nobody has sent anything before this claim
    broken: bool = False  # whether a statement has met an error
    open: bool = False  # whether documents were counted since progress was last reported
    owed: int = 0  # documents evaluated since the slot last waited for the run's rate
    evaluated: int = 0  # documents of the whole claim
    failed: int = 0
    failed_in_all: int = 0  # documents of the whole claim
    left: Counter[str] | None = None  # in the phase processing, where no index tells: documents by status
    _done: Counter[str] = field(default_factory=Counter)
    chunk_times: ChunkTimes = field(default_factory=ChunkTimes)  # of this claim

    @property
    def clean(self) -> bool:
        return self.fresh and not self.broken

    @property
    def counts(self) -> Counts:
        return Counts(self._done[CHANGED], self._done[UNCHANGED], self._done[SKIPPED])

    @property
    def empty(self) -> bool:
        return not self.failed and not self.counts.total

    def count(self, number: int, outcome: str = CHANGED) -> None:
        self._done[outcome] += number
        self.owed += number
        self.evaluated += number
        self.open = True

    def fail(self, number: int) -> None:
        self.failed += number
        self.failed_in_all += number
        self.owed += number
        self.evaluated += number
        self.open = True

    def begin(self) -> None:
        """Starts with a stretch of which nothing is known."""
        self.broken = False
        self.take_out()

    def take_out(self) -> None:
        """Resets the numbers, which are counted in the progress now."""
        self._done, self.failed, self.open = Counter(), 0, False
        if self.left is not None:
            self.left = Counter()
