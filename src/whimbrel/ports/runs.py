"""The runs of the ledger."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from whimbrel.domain.runs.forecast import ProgressSample
from whimbrel.domain.runs.run import Counts, Run, RunAtWork, RunKind
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.tiling import Tiling


class Runs(Protocol):
    """The runs of the ledger. Every write of the ledger is majority-acknowledged and journaled."""

    def add(self, run: Run, who: str, *, holding: bool = False) -> Run:
        """Insert a run; its times are the server's. `holding`: it has its collection from its birth, or is not added.

        Raises CollectionBusy where another run holds it.
        """
        ...

    def get(self, run_id: str) -> Run | None: ...

    def list(
        self,
        *,
        statuses: Iterable[RunStatus] | None = None,
        migration: str | None = None,
        of: str | None = None,
        kind: RunKind | None = None,
        since: datetime | None = None,
        after: RunPlace | str | None = None,
        limit: int = 100,
        brief: bool = False,
    ) -> list[Run]:
        """Newest first. `of`: only those that roll back, clean up or verify this run; `kind`: only those of them that do this. `since`: only those that were added then or later. `after`: only those that come after this place, or this run, in that order. Raises RunUnknown.

        `brief`: to be listed, not to be worked on: without warnings, report, update, and filters that are long (`abridged`).
        """
        ...

    def followers(self, run_id: str, *, kind: RunKind | None = None) -> Iterator[Run]:
        """The runs that roll back, clean up or verify a run, newest first, read in pages. `kind`: only those that do this."""
        ...

    def every(self, statuses: Iterable[RunStatus], *, ns: str | None = None) -> Iterator[Run]:
        """All runs in these states, oldest first, read in pages. `ns`: only those on this collection."""
        ...

    def counted(self, statuses: Iterable[RunStatus], *, ns: str | None = None) -> Mapping[RunStatus, int]:
        """How many runs there are in each of these states. `ns`: only those on this collection."""
        ...

    def at_work(self) -> Sequence[RunAtWork]:
        """The runs that are running, pausing or cancelling, oldest first. There is about one for each collection at most.

        Raises LedgerFormat where a newer program has upgraded the ledger: this process must end.
        """
        ...

    def in_line(self) -> Sequence[str]:
        """The queued runs that may begin now: the oldest of each collection that no other run holds.

        Costs the same however many wait behind them.
        """
        ...

    def waiting(self) -> Sequence[tuple[str, int]]:
        """The oldest queued run of each collection that another run holds, and how many wait behind it."""
        ...

    def move(
        self,
        run_id: str,
        target: RunStatus,
        *,
        who: str,
        why: str = "",
        seen: RunStatus | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> bool:
        """Change a run's status, if the table of states allows it from what it is. Audited. False where it was not so.

        `seen`: the change was decided upon this status, and holds for no other.
        Becoming `running` takes the collection: False while another run holds it (hole H26). A run that
        is undone by another never becomes `queued` again.
        """
        ...

    def note_planned(self, run_id: str, seq: int) -> None:
        """Keep that batches up to this one were stored."""
        ...

    def next_leg(self, run: Run) -> bool:
        """Open the next phase by one conditional update. False where somebody else has."""
        ...

    def fold(
        self, run: Run, counts: Counts, through: int, *, inferred: bool, taken_over: bool = False
    ) -> bool:
        """Add settled batches to the run's counts, once: conditional on what was folded before (hole H7).

        `inferred`: some of these counts are; `taken_over`: some of these batches were, from workers that were lost.
        """
        ...

    def sample(self, run_id: str, kept: Sequence[ProgressSample], *, done: int, total: int) -> None:
        """Add to the samples of a running run, of which these are kept, how far it is now, by the server's clock."""
        ...

    def keep_tiling(
        self, run_id: str, *, tiling: Tiling | None = None, checked: Tiling | None = None
    ) -> None:
        """Keep what is known of the ranges of the run's batches, or of those of the run that it verifies."""
        ...

    def adjust(self, run_id: str, settings: Mapping[str, int | None], *, who: str) -> bool:
        """Change `batch_size`, `rate` or `priority` of a run that has not ended. Audited. False where it has."""
        ...

    def reserve(self, run_id: str, documents: int, rate: int) -> float:
        """Take so many documents' time from the run's rate: the seconds until it is over, by the server's clock."""
        ...

    def undo(self, run_id: str, by: str, *, seen: str | None, who: str) -> bool:
        """Note that a run is undone by another: it cannot go on any more. Audited.

        False where it has not ended, or is not undone by `seen` (none) any more.
        """
        ...

    def describe(self, run_id: str, **fields: Any) -> None:
        """Set fields that decide nothing: message, estimated."""
        ...

    def ahead(self, ns: str) -> str | None:
        """The run that a new one on a collection waits for: the one that holds it, else the oldest that is queued."""
        ...

    def holders(self, collections: Iterable[str]) -> Mapping[str, str]:
        """The runs that hold these collections, by collection; those that nobody holds are not in it."""
        ...

    def holder(self, ns: str) -> str | None:
        """The run that holds a collection."""
        ...
