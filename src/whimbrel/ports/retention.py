"""What of the ledger is old enough to go, and its removal, a little at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from whimbrel.domain.runs.run import Run


@dataclass(frozen=True, slots=True)
class Removed:
    """Rows that are gone. `rest`: there are more of them."""

    batches: int = 0
    failures: int = 0
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in the audit, in the order of its times."""

    at: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Audited:
    """Entries of the audit that were looked at. `last`: the last of them; None where no older one is left."""

    removed: int
    last: Entry | None


class Retention(Protocol):
    """Removal of old rows. A run's own row goes first, so that nobody can go on with what is half gone."""

    def old(self, days: float, *, after: Run | None = None) -> Iterator[Run]:
        """Runs that ended more than so many days ago by the server's clock, the oldest first, read in pages. `after`: only those behind this one."""
        ...

    def is_old(self, run: Run, days: float) -> bool:
        """Whether a run has ended so long ago."""
        ...

    def begin(self, run: Run) -> bool:
        """Remove the run's row, and remember that its other rows have to go. False where the run has changed since it was read."""
        ...

    def begun(self) -> Sequence[str]:
        """Runs whose removal has begun, and was not finished."""
        ...

    def remove(self, run_id: str, limit: int) -> Removed:
        """Remove rows of a run whose removal has begun, at most so many of a kind; without a rest, it is finished."""
        ...

    def audit(self, days: float, limit: int, *, after: Entry | None = None) -> Audited:
        """Remove entries of the audit that are so old, but those about runs that are kept; at most so many behind `after` are looked at."""
        ...

    def processes(self, days: float) -> int:
        """Remove what processes have left that were killed: rows of workers and roles so old. How many."""
        ...
