"""What came of the documents of a batch, as far as the replies of this claim tell it."""

from collections import Counter
from dataclasses import dataclass, field

from whimbrel.domain.batches import Piece
from whimbrel.domain.marks import CHANGED, SKIPPED, UNCHANGED
from whimbrel.domain.runs import Counts


@dataclass(slots=True)
class Tally:
    """The numbers of a claim. They hold while it is clean: claimed for the first time, and no statement has met an error."""

    clean: bool = True
    owed: int = 0  # documents evaluated since the slot last waited for the run's rate
    left: dict[Piece, Counter[str]] | None = (
        None  # of the phase processing where no index tells: documents by status, by piece
    )
    _done: Counter[str] = field(default_factory=Counter)

    def count(self, number: int, outcome: str = CHANGED) -> None:
        self._done[outcome] += number
        self.owed += number

    @property
    def counts(self) -> Counts:
        return Counts(self._done[CHANGED], self._done[UNCHANGED], self._done[SKIPPED])
