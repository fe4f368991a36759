"""What of the ledger is old enough to be removed, and its removal, a little at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.standing import PrunedRun


@dataclass(frozen=True, slots=True)
class Removed:
    """Removed rows. `incomplete`: there are more of them."""

    batches: int = 0
    failures: int = 0
    incomplete: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A place in the audit, in the order of its times."""

    time: datetime
    id: str


@dataclass(frozen=True, slots=True)
class Audited:
    """Entries of the audit that were examined. `last`: the last of them; None where no older one is left."""

    removed: int
    last: Entry | None


class Retention(Protocol):
    """Removal of old rows. A run's own row goes first, so that nobody can continue a run that is half removed."""

    def old(self, days: float, *, after: Run | None = None) -> Iterator[Run]:
        """Yields runs that ended more than so many days ago by the server's clock, the oldest first, read in pages. `after`: only those behind this one."""
        ...

    def is_old(self, run: Run, days: float) -> bool:
        """Whether a run has ended so long ago."""
        ...

    def begin(self, run: Run, *, verified: bool = False) -> bool:
        """Removes the run's row, and remembers that its other rows have to go. Returns False where the run has changed since it was read.

        Of a run that has completed its migration it also remembers that, and whether it was `verified`.
        """
        ...

    def completed(self, migration: str, version: int, ns: str) -> PrunedRun | None:
        """Returns the newest pruned run that has completed this version on this collection, unless a pruned later one has changed that."""
        ...

    def begun(self) -> Sequence[str]:
        """Returns runs whose removal has begun, but was not finished."""
        ...

    def remove(self, run_id: str, limit: int) -> Removed:
        """Removes rows of a run whose removal has begun, at most so many of a kind; it is finished unless the result is incomplete."""
        ...

    def audit(self, days: float, limit: int, *, after: Entry | None = None) -> Audited:
        """Removes entries of the audit that are so old, except those about runs that are kept; examines at most so many behind `after`."""
        ...

    def processes(self, days: float) -> int:
        """Removes what killed processes have left: rows of workers and roles that are so old. Returns how many."""
        ...
