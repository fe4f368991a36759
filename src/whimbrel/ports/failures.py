"""The failures of the ledger."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.causes import GroupCount
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
from whimbrel.domain.failures.failure_query import CauseSeen, FailurePage, FailureQuery
from whimbrel.domain.runs.batches import Batch, Range
from whimbrel.domain.runs.run import Counts, Run


class Failures(Protocol):
    """The failures of the ledger, and the documents that were passed over."""

    def record(self, run: Run, batch: Batch, failures: Sequence[FailedDocument]) -> None:
        """Upserts a row for each: one attempt more, once per batch; open until its attempts are spent, then dead.

        What earlier runs of the migration and version recorded of these documents is superseded: those rows are removed.
        """
        ...

    def record_passed_over(self, run: Run, batch: Batch, outcomes: Mapping[Key, str]) -> None:
        """Remembers documents as skipped or unchanged, where they cannot tell it themselves."""
        ...

    def passed_over(self, run_id: str, token: str) -> Counts:
        """Returns what `record_passed_over` remembered for a batch."""
        ...

    def excluded(self, run_id: str, where: Range | Sequence[Key]) -> Sequence[Key]:
        """Returns which of these documents have an unresolved row of this run, or had one when it ended that a later run took over."""
        ...

    def excluded_pages(self, run_id: str) -> Iterator[Sequence[Key]]:
        """Yields the same for the whole collection, a thousand at a time."""
        ...

    def unresolved(self, run: Run, keys: Sequence[Key]) -> Sequence[Unresolved]:
        """Returns unresolved failures on these documents of any run of the run's migration and version."""
        ...

    def of_others(self, run: Run, where: Range) -> Iterator[Sequence[Unresolved]]:
        """Yields unresolved failures of other runs on documents of a range, a thousand at a time."""
        ...

    def resolve(self, failures: Sequence[Unresolved], resolution: str) -> None: ...

    def standings(self, run_id: str, where: Range) -> Iterator[Sequence[FailureStanding]]:
        """Yields what became of the failures of this run on documents of a range, a thousand at a time."""
        ...

    def of_kinds(self, run_id: str, where: Range, kinds: Sequence[FailureKind]) -> Sequence[FailedDocument]:
        """Returns what went wrong with documents of a range in this run, for failures of these kinds; without traceback."""
        ...

    def withdraw(self, run_id: str, type_: str, *, message: str | None = None) -> None:
        """Removes the rows of a type: what they reported turned out to be no failure."""
        ...

    def any_open(self, run_id: str) -> bool:
        """Whether a failure of this run waits for its next attempt."""
        ...

    def next_due(self, run_id: str) -> float | None:
        """Returns the seconds until the first open failure is due, zero or less where it is; None where there is none."""
        ...

    def due(self, run_id: str, limit: int) -> Sequence[DueRetry]:
        """Returns open failures that are due, those first that have waited longest."""
        ...

    def tried(self, run_id: str, keys: Sequence[Key]) -> Sequence[OpenFailure]:
        """Returns the open failures of this run on these documents."""
        ...

    def counts(self, run_id: str) -> dict[str, int]:
        """Returns the numbers of unresolved failures: `open`, `dead`, and of both together `failed` and `conflict`. They are stored, not counted."""
        ...

    def numbers(self, run_id: str) -> tuple[dict[str, int], int]:
        """Returns the same, and how many batches have unresolved failures."""
        ...

    def numbers_each(self, runs: Sequence[str]) -> Mapping[str, tuple[dict[str, int], int]]:
        """Returns the same for each of these runs: by a fixed number of queries, however many runs there are."""
        ...

    def add_up(self, run_id: str) -> None:
        """Counts again, and stores, what crashes have left uncounted."""
        ...

    def keep_some(self, seconds: float) -> None:
        """Does the same for any runs, for about so many seconds."""
        ...

    def by_worker(self, workers: Sequence[str]) -> Mapping[str, int]:
        """Counts batches that have unresolved failures, by the worker that claimed them last."""
        ...

    def groups(
        self,
        run_id: str,
        *,
        state: FailureState | None = None,
        group: str | None = None,
        after: str | None = None,
        limit: int = 50,
        among: Collection[str] | None = None,
    ) -> GroupPage:
        """Lists failures by cause. `state`: only groups that have such failures; `group`: only this one; `among`: only these; `after`: the cursor of an earlier page.

        A run has at most `domain.failures.causes.GROUPS`. Raises CursorInvalid.
        """
        ...

    def by_cause(self, run_id: str) -> Mapping[str, GroupCount]:
        """Counts the failures of a run by group. The cost does not depend on how many there are."""
        ...

    def causes(self, run_id: str) -> Sequence[str]:
        """Returns the groups of all causes that a run has ever met."""
        ...

    def group_of(self, run_id: str, name: str) -> str | None:
        """Returns the group of this short name or signature; None where the run has no such group."""
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
        """Lists dead failures first, then open ones, then resolved ones; those of one state by group and `_id`. `after`: only what comes after this place."""
        ...

    def causes_seen(self, run_id: str) -> Mapping[str, CauseSeen]:
        """Returns what is known of each cause that a run has ever met, by group. Nothing is counted."""
        ...

    def search(
        self,
        run_id: str,
        query: FailureQuery,
        *,
        after: FailurePlace | None = None,
        limit: int = 100,
        slim: bool = False,
    ) -> FailurePage:
        """Lists failures in the order of `list`. `slim`: without tracebacks. The cost does not depend on how many others there are: a page that was looked for long may be short."""
        ...

    def reopen(self, run_id: str, *, group: str | None = None) -> int:
        """Makes dead failures open and due, and forgets their attempts. Returns how many."""
        ...
