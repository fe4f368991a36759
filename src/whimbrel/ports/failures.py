"""The failures of the ledger."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import (
    DueRetry,
    FailedDocument,
    Failure,
    FailureKind,
    FailurePlace,
    FailureStanding,
    FailureState,
    GroupPage,
    OpenFailure,
    Unresolved,
)
from whimbrel.domain.runs.batches import Batch, Range
from whimbrel.domain.runs.run import Counts, Run


class Failures(Protocol):
    """The failures of the ledger, and the documents that were passed over."""

    def record(self, run: Run, batch: Batch, troubles: Sequence[FailedDocument]) -> None:
        """Upsert a row for each: one attempt more, once per batch; open until its tries are spent, then dead.

        What earlier runs of the migration and version recorded of these documents is superseded: those rows go.
        """
        ...

    def record_passed_over(self, run: Run, batch: Batch, outcomes: Mapping[Key, str]) -> None:
        """Remember documents as skipped or unchanged, where they cannot say so themselves."""
        ...

    def passed_over(self, run_id: str, token: str) -> Counts:
        """What `pass_over` remembered for a batch."""
        ...

    def excluded(self, run_id: str, where: Range | Sequence[Key]) -> Sequence[Key]:
        """Which of these documents have an unresolved row of this run, or had one when it ended that a later run took over."""
        ...

    def excluded_pages(self, run_id: str) -> Iterator[Sequence[Key]]:
        """The same over the whole collection, a thousand at a time."""
        ...

    def unresolved(self, run: Run, keys: Sequence[Key]) -> Sequence[Unresolved]:
        """Unresolved failures on these documents of any run of the run's migration and version."""
        ...

    def of_others(self, run: Run, where: Range) -> Iterator[Sequence[Unresolved]]:
        """Those of other runs on documents of a range, a thousand at a time."""
        ...

    def resolve(self, failures: Sequence[Unresolved], resolution: str) -> None: ...

    def standings(self, run_id: str, where: Range) -> Iterator[Sequence[FailureStanding]]:
        """What became of the failures of this run on documents of a range, a thousand at a time."""
        ...

    def of_kinds(self, run_id: str, where: Range, kinds: Sequence[FailureKind]) -> Sequence[FailedDocument]:
        """What went wrong with documents of a range in this run, as far as it is of these kinds; without its traceback."""
        ...

    def withdraw(self, run_id: str, type_: str, *, message: str | None = None) -> None:
        """Remove the rows of a type: what they said turned out to be no failure."""
        ...

    def any_open(self, run_id: str) -> bool:
        """Whether a failure of this run waits for its next try."""
        ...

    def next_due(self, run_id: str) -> float | None:
        """Seconds until the first open failure's time comes, none or less where it has; None where there is none."""
        ...

    def due(self, run_id: str, limit: int) -> Sequence[DueRetry]:
        """Open failures whose time has come, those that have waited longest."""
        ...

    def tried(self, run_id: str, keys: Sequence[Key]) -> Sequence[OpenFailure]:
        """The open failures of this run on these documents."""
        ...

    def counts(self, run_id: str) -> dict[str, int]:
        """Unresolved failures: `open`, `dead`, and of both together `failed` and `conflict`. Kept, not counted."""
        ...

    def numbers(self, run_id: str) -> tuple[dict[str, int], int]:
        """The same, and how many batches have unresolved failures."""
        ...

    def numbers_each(self, runs: Sequence[str]) -> Mapping[str, tuple[dict[str, int], int]]:
        """The same of each of these runs: as many questions, however many they are."""
        ...

    def add_up(self, run_id: str) -> None:
        """Count again, and keep, what crashes have left uncounted."""
        ...

    def keep_some(self, seconds: float) -> None:
        """The same for any runs, for about so many seconds."""
        ...

    def by_worker(self, workers: Sequence[str]) -> Mapping[str, int]:
        """Batches that have unresolved failures, by the worker that claimed them last."""
        ...

    def groups(
        self,
        run_id: str,
        *,
        state: FailureState | None = None,
        group: str | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> GroupPage:
        """Failures by cause. `state`: only groups that have such; `group`: only this one; `after`: as an earlier page gave it.

        Of a run there are `domain.failures.causes.GROUPS` at most. Raises CursorInvalid.
        """
        ...

    def group_of(self, run_id: str, name: str) -> str | None:
        """The group of this short name or signature; None where the run has none such."""
        ...

    def list(
        self,
        run_id: str,
        *,
        state: FailureState | None = None,
        group: str | None = None,
        after: FailurePlace | None = None,
        limit: int = 100,
    ) -> list[Failure]:
        """Dead ones first, then open ones, then resolved ones; of one state by group and `_id`. `after`: only what comes after this place."""
        ...

    def reopen(self, run_id: str, *, group: str | None = None) -> int:
        """Make dead failures open and due, their spent attempts forgotten: how many."""
        ...
