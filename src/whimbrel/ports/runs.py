"""The runs of the ledger."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from whimbrel.domain.runs.allowance import Allowance
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.failure_budget import BrokenRule, FailureBudget, Standing
from whimbrel.domain.runs.forecast import ProgressSample
from whimbrel.domain.runs.leg_counts import LegCounts
from whimbrel.domain.runs.run import Counts, Run, RunAtWork, RunKind
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.runs.run_query import RunQuery
from whimbrel.domain.runs.sizing import Sizing
from whimbrel.domain.runs.stages import GateLook, StageState
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.tiling import Tiling


class Runs(Protocol):
    """The runs of the ledger. Every write of the ledger is majority-acknowledged and journaled."""

    def add(self, run: Run, who: str, *, holding: bool = False) -> Run:
        """Inserts a run; its times are the server's. `holding`: it holds its collection from the beginning, or is not added.

        Raises CollectionBusy where another run holds it; AlreadyStarted where another run has its `start_key`.
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
        """Lists runs, newest first. `of`: only those that roll back, clean up or verify this run; `kind`: only those of this kind. `since`: only those that were added then or later. `after`: only those that come after this place, or this run, in that order. Raises RunUnknown.

        `brief`: to be listed, not to be worked on: without warnings, report, update, and long filters (`abridged`).
        """
        ...

    def of_version(
        self,
        migration: str,
        version: int,
        ns: str | None,
        *,
        kind: RunKind | None = None,
        since: datetime | None = None,
        after: RunPlace | None = None,
        limit: int = 100,
    ) -> Sequence[Run]:
        """Lists the runs of a version on a collection, or on any, newest first and `brief`: see `list`."""
        ...

    def versions(self, migration: str, *, least: int) -> Sequence[int]:
        """Returns the versions of a migration, from this one on, of which there are runs."""
        ...

    def followers(self, run_id: str, *, kind: RunKind | None = None) -> Iterator[Run]:
        """Yields the runs that roll back, clean up or verify a run, newest first, read in pages. `kind`: only those of this kind."""
        ...

    def some(self, run_ids: Sequence[str]) -> Sequence[Run]:
        """Returns those of these runs that there are, each `brief`: see `list`."""
        ...

    def every(self, statuses: Iterable[RunStatus], *, ns: str | None = None) -> Iterator[Run]:
        """Yields all runs in these states, oldest first, read in pages. `ns`: only those on this collection."""
        ...

    def counted(self, statuses: Iterable[RunStatus], *, ns: str | None = None) -> Mapping[RunStatus, int]:
        """Counts the runs in each of these states. `ns`: only those on this collection."""
        ...

    def at_work(self) -> Sequence[RunAtWork]:
        """Returns the runs that are running, pausing or cancelling, oldest first. There is at most about one for each collection.

        Raises LedgerFormat where a newer program has upgraded the ledger: this process must end.
        """
        ...

    def in_line(self) -> Sequence[str]:
        """Returns the queued runs that may begin now: the oldest of each collection that no other run holds.

        The cost does not depend on how many wait behind them.
        """
        ...

    def waiting(self) -> Sequence[tuple[str, int]]:
        """Returns the oldest queued run of each collection that another run holds, and how many wait behind it."""
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
        """Changes a run's status, if the table of states allows it from the present one. Audited. Returns False where it does not.

        `seen`: the change was decided for this status, and applies to no other.
        Becoming `running` takes the collection: False while another run holds it (hole H26). A run that
        is undone by another never becomes `queued` again.
        """
        ...

    def note_planned(self, run_id: str, seq: int) -> None:
        """Stores that batches up to this one were stored."""
        ...

    def next_leg(self, run: Run) -> bool:
        """Opens the next phase by one conditional update. Returns False where somebody else has."""
        ...

    def fold(
        self,
        run: Run,
        counts: Counts,
        through: int,
        *,
        inferred: bool,
        taken_over: bool = False,
        chunk_times: ChunkTimes | None = None,
        by_leg: Mapping[int, LegCounts] | None = None,
    ) -> bool:
        """Adds settled batches to the run's counts, once: conditional on what was folded before (hole H7).

        `inferred`: some of these counts are inferred; `taken_over`: some of these batches were taken over from lost workers.
        """
        ...

    def sample(self, run_id: str, samples: Sequence[ProgressSample], *, done: int, total: int) -> None:
        """Adds the present progress to the samples of a running run, by the server's clock; of the earlier ones, `samples` are kept."""
        ...

    def keep_tiling(
        self, run_id: str, *, tiling: Tiling | None = None, checked: Tiling | None = None
    ) -> None:
        """Stores what is known of the ranges of the run's batches, or of those of the run that it verifies."""
        ...

    def adjust(self, run_id: str, settings: Mapping[str, float | Sequence[str] | None], *, who: str) -> bool:
        """Changes `batch_size`, `rate`, `priority`, `windows`, `nice`, `follow` or a limit of the failure budget of a run that has not ended.

        Audited. Returns False where it has ended.
        """
        ...

    def hold(self, run_id: str, allowance: Allowance, message: str, *, waits: bool) -> None:
        """Stores what a running run may have of its speed, and why. While it `waits`, its working time does not go on."""
        ...

    def resize(self, run: Run, size: int, sizing: Sizing) -> bool:
        """Stores how large the run's next batches are, and why. Returns False where somebody has set another size since it was read."""
        ...

    def set_budget(self, run_id: str, budget: FailureBudget, forgiven: Standing | None, *, who: str) -> None:
        """Stores the failure budget of a run, and what no longer counts for it. Audited."""
        ...

    def note_over_budget(self, run_id: str, broken: Sequence[BrokenRule]) -> None:
        """Stores which limits of its failure budget a run has passed."""
        ...

    def reserve(self, run_id: str, documents: int, rate: int) -> float:
        """Takes the time of so many documents from the run's rate. Returns the seconds until it is over, by the server's clock."""
        ...

    def move_stage(
        self,
        run: Run,
        target: StageState,
        *,
        seen: StageState,
        who: str,
        looked: GateLook | None = None,
        approved: bool = False,
    ) -> bool:
        """Changes the state of the stage that a run is in, if it is as it was seen. Audited. Returns False where it is not.

        `looked`: what the gate has just found. `approved`: by `who`, a person. A stage that becomes `holding` is held from now on for as long as
        the run's stages say. A stage that is refused pauses the run in the same write, with the reason; False also where it is not running.
        """
        ...

    def hold_over(self, run: Run) -> bool:
        """Whether the stage that a run is in was held long enough, by the server's clock."""
        ...

    def undo(self, run_id: str, by: str, *, seen: str | None, who: str) -> bool:
        """Records that a run is undone by another: it cannot continue any more. Audited.

        Returns False where it has not ended, or is not undone by `seen` (none) any more.
        """
        ...

    def describe(self, run_id: str, **fields: Any) -> None:
        """Sets fields that decide nothing: message, estimated."""
        ...

    def ahead(self, ns: str) -> str | None:
        """Returns the run that a new one on a collection waits for: the one that holds it, otherwise the oldest queued one."""
        ...

    def holders(self, collections: Iterable[str]) -> Mapping[str, str]:
        """Returns the runs that hold these collections, by collection; collections that nobody holds are left out."""
        ...

    def holder(self, ns: str) -> str | None:
        """Returns the run that holds a collection."""
        ...

    def just_ended(self, seconds: float, *, limit: int) -> Sequence[Run]:
        """Returns runs that ended within the last seconds, the last first."""
        ...

    def failed_since(self, moment: datetime, *, most: int) -> int:
        """Returns how many runs have failed at that time or later, counted up to `most`. The cost does not depend on how many others there are."""
        ...

    def page(self, query: RunQuery, *, after: RunPlace | None = None, limit: int = 100) -> Sequence[Run]:
        """Lists the runs of a query, newest first and `brief`: see `list`. The cost does not depend on how many others there are."""
        ...
