"""The durable truth: runs, batches, failures, leases."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from bson.timestamp import Timestamp

from whimbrel.domain.batches import Batch, Outline, Range
from whimbrel.domain.failures import Due, Failure, FailureGroup, Trouble, Unresolved
from whimbrel.domain.progress import Progress
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Counts, Run, RunAtWork, RunKind
from whimbrel.domain.states import BatchStatus, RunStatus
from whimbrel.domain.tiling import Tiling
from whimbrel.domain.verification import Tally
from whimbrel.domain.workers import Worker
from whimbrel.ports.answers import Answers
from whimbrel.ports.proofs import Proofs
from whimbrel.ports.retention import Retention
from whimbrel.ports.schedules import Schedules

CONSUMERS = "consumers"  # the switch by which a person stops all consumers of the cluster


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
        after: str | None = None,
        limit: int = 100,
    ) -> list[Run]:
        """Newest first. `of`: only those that roll back, clean up or verify this run; `kind`: only those of them that do this. `after`: only those that come after this run in that order; none where it is not there."""
        ...

    def every(self, statuses: Iterable[RunStatus], *, ns: str | None = None) -> Iterator[Run]:
        """All runs in these states, oldest first, read in pages. `ns`: only those on this collection."""
        ...

    def counted(self, statuses: Iterable[RunStatus], *, ns: str | None = None) -> Mapping[RunStatus, int]:
        """How many runs there are in each of these states. `ns`: only those on this collection."""
        ...

    def at_work(self) -> Sequence[RunAtWork]:
        """The runs that are running, pausing or cancelling, oldest first. There is about one for each collection at most."""
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

    def next_leg(self, run: Run) -> bool:
        """Open the next phase by one conditional update. False where somebody else has."""
        ...

    def fold(self, run: Run, counts: Counts, through: int, *, inferred: bool) -> bool:
        """Add settled batches to the run's counts, once: conditional on what was folded before (hole H7)."""
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

    def holder(self, ns: str) -> str | None:
        """The run that holds a collection."""
        ...


class Batches(Protocol):
    """The batches of the ledger."""

    def add(self, batches: Sequence[Batch]) -> int:
        """Insert in order, stop at the first id that is there already: the number inserted (hole H25)."""
        ...

    def last(self, run_id: str) -> Batch | None: ...

    def last_seq(self, run_id: str) -> int:
        """The number of the last batch; 0 where there is none."""
        ...

    def list(
        self,
        run_id: str,
        *,
        after: int = -1,
        statuses: Iterable[BatchStatus] | None = None,
        leg: int | None = None,
        left: str | None = None,
        limit: int = 1000,
    ) -> list[Batch]:
        """By `seq`. `left`: only those that left documents of this status to other phases."""
        ...

    def outlines(self, run_id: str, *, after: int, limit: int, bounds: bool = False) -> Sequence[Outline]:
        """Batches without their keys, by `seq`. `bounds`: it is looked whether the bounds of each ascend."""
        ...

    def named(self, run_id: str, *, after: int, limit: int) -> Sequence[Batch]:
        """Batches of named documents, by `seq`."""
        ...

    def count(self, run_id: str, statuses: Iterable[BatchStatus]) -> int: ...

    def end(self, run_id: str, leg: int) -> Key | None:
        """Where the last range of a leg ends; None where it had none."""
        ...

    def queued(self, runs: Sequence[str]) -> int:
        """How many batches of these runs are queued."""
        ...

    def get(self, token: str) -> Batch | None: ...

    def claim(
        self,
        runs: Sequence[str],
        *,
        worker: str,
        lsid: bytes,
        token: str | None = None,
        aside: Sequence[str] = (),
    ) -> Batch | None:
        """Take a queued batch of the run whose turn it is among these, or the one of `token`.

        Under a lease in the server's time, by a new owner nonce. `aside`: tokens of batches that are not to be taken; few.
        """
        ...

    def renew(self, batch: Batch) -> datetime:
        """Prolong the lease: its new end. Raises LeaseLost where the batch is another's by now."""
        ...

    def note(self, batch: Batch, progress: Progress, *, since: Timestamp | None = None) -> None:
        """Say how far a claimed batch is, when all of that is acknowledged by the majority. Raises LeaseLost.

        This waits for no other member and no journal: it may be lost, and then less is known than was done.
        `since`: a time of the cluster behind all that was done, and before anything was sent for the rest.
        """
        ...

    def suspect(self, batch: Batch, key: Key | None, progress: Progress) -> None:
        """Say which document of a solo batch is in hand, and how far it is. Raises LeaseLost."""
        ...

    def keep_before(self, batch: Batch, before: Mapping[int, int]) -> None:
        """Mark "filter": keep how many documents were eligible before anything was sent, by the end of each piece of the rest.

        Raises LeaseLost.
        """
        ...

    def settle(
        self,
        batch: Batch,
        counts: Counts,
        *,
        inferred: bool = False,
        progress: Progress | None = None,
        tally: Tally | None = None,
        left: Mapping[str, int] | None = None,
    ) -> None:
        """The end of a batch. Done twice it is the same. `tally`: of a verification; `left`: of the phase processing. Raises LeaseLost."""
        ...

    def release(self, batch: Batch, *, progress: Progress | None = None, untouched: bool = False) -> None:
        """Give a batch back before its end; it is not counted as a takeover. Nothing happens if it is another's.

        Only when no statement of it can change a document any more (`Documents.quiet`). `untouched`: nothing was sent but for
        what `progress` tells.
        """
        ...

    def take_over(self, *, worker: str | None = None) -> Sequence[Batch]:
        """Queue again what lost leases hold, when the statements of their sessions have ended (hole H13).

        Of one worker: at once, for its parent saw it die. Else those whose lease ended a grace ago. A batch whose statement
        cannot be ended now stays as it is.
        """
        ...

    def cancel(self, batch: Batch, counts: Counts, *, inferred: bool) -> None:
        """Settle a batch that nobody holds as cancelled. Nothing happens if somebody does."""
        ...

    def after(self, run_id: str, seq: int) -> tuple[Counts, int, int]:
        """Of the batches after this one: the counts of the settled ones, how many these are, and the number of the last of all (0: none)."""
        ...

    def recent(self, run_id: str, seconds: float) -> tuple[int, float]:
        """Documents in batches settled within the last seconds, and the seconds that these span."""
        ...

    def waiting(self, run_id: str, limit: int) -> Sequence[str]:
        """Tokens of the first queued batches of a run."""
        ...

    def open_counts(self, runs: Sequence[str]) -> Mapping[tuple[str, bool, BatchStatus], int]:
        """Queued batches of these runs and running ones of all, by run and by whether they are retries."""
        ...

    def settled(self, seconds: float) -> int:
        """Batches of all runs settled within the last seconds."""
        ...

    def orphaned(self) -> Sequence[str]:
        """Ids of runs that have queued or running batches, and no row of their own."""
        ...

    def live(self, tokens: Sequence[str]) -> tuple[set[str], set[str]]:
        """Which of these tokens name a batch at all, and which of those a running one under a live lease."""
        ...


class Failures(Protocol):
    """The failures of the ledger, and the documents that were passed over."""

    def record(self, run: Run, batch: Batch, troubles: Sequence[Trouble]) -> None:
        """Upsert a row for each: one attempt more, once per batch; open until its tries are spent, then dead.

        What earlier runs of the migration and version recorded of these documents is superseded: those rows go.
        """
        ...

    def pass_over(self, run: Run, batch: Batch, outcomes: Mapping[Key, str]) -> None:
        """Remember documents as skipped or unchanged, where they cannot say so themselves."""
        ...

    def passed(self, run_id: str, token: str) -> Counts:
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

    def within(self, run_id: str, where: Range) -> Sequence[Failure]:
        """All failures of this run on documents of a range, resolved ones too."""
        ...

    def withdraw(self, run_id: str, type_: str, *, message: str | None = None) -> None:
        """Remove the rows of a type: what they said turned out to be no failure."""
        ...

    def due(self, run_id: str, limit: int) -> Sequence[Due]:
        """Open failures whose time has come, those that have waited longest."""
        ...

    def of(self, run_id: str, keys: Sequence[Key]) -> Sequence[Failure]:
        """The open rows of this run on these documents."""
        ...

    def counts(self, run_id: str) -> dict[str, int]:
        """Unresolved failures: `open`, `dead`, and of both together `failed` and `conflict`. Kept by batch, not counted."""
        ...

    def add_up(self, run_id: str) -> None:
        """Count again, and keep, what crashes have left uncounted."""
        ...

    def by_worker(self, workers: Sequence[str]) -> Mapping[str, int]:
        """Batches that have unresolved failures, by the worker that claimed them last."""
        ...

    def failed_batches(self, run_id: str) -> int:
        """Batches that have unresolved failures."""
        ...

    def groups(self, run_id: str, limit: int = 50) -> Sequence[FailureGroup]: ...

    def list(self, run_id: str, *, signature: str | None = None, limit: int = 100) -> list[Failure]: ...

    def reopen(self, run_id: str, *, signature: str | None = None) -> int:
        """Make dead failures open and due, their spent attempts forgotten: how many."""
        ...


class Leases(Protocol):
    """Roles that one process has at a time, workers that are alive, and the audit."""

    def lead(self, role: str, holder: str, seconds: float) -> bool:
        """Hold a role (coordinator of a run, sweep) for the next seconds. False while another holds it."""
        ...

    def step_down(self, holder: str, *, role: str = "") -> None:
        """Give up all roles of a holder, or those whose names begin with `role`."""
        ...

    def beat(self, worker: str, **facts: Any) -> None:
        """Say that a worker process is alive, with the facts of its row (`domain/workers.py`)."""
        ...

    def workers(self, seconds: float) -> Sequence[Worker]:
        """The worker processes that said so within the last seconds, by name."""
        ...

    def leave(self, worker: str) -> None:
        """Forget a worker that ends."""
        ...

    def slots(self, seconds: float, *, run: Run | None = None, without: str = "") -> int:
        """Slots of all workers that said so within the last seconds.

        `run`: only of those that may work on this run, and have its migration's code. `without`: not of those whose name
        begins with it.
        """
        ...

    def audit(self, what: str, *, run: str, who: str, why: str = "") -> None: ...

    def off(self, name: str) -> bool:
        """Whether a switch of the whole cluster is off. One that nobody has touched is on."""
        ...

    def switch(self, name: str, *, on: bool, who: str, ticket: str = "") -> bool:
        """Set a switch. Audited. False where it was so already.

        `ticket`: turns on only what was turned off with the same one, and by nobody since.
        """
        ...

    def remember(self, name: str, value: Mapping[str, Any], *, who: str) -> None:
        """Keep a value under a name, with the time. Audited."""
        ...

    def recall(self, name: str) -> tuple[Mapping[str, Any], datetime] | None:
        """What is kept under a name, and since when."""
        ...

    def probe(self) -> float:
        """Write a row, read it back as the majority has it, remove it: the seconds until it was read."""
        ...


@dataclass(frozen=True, slots=True)
class Ledger:
    """The durable truth about runs, batches and failures."""

    runs: Runs
    batches: Batches
    failures: Failures
    leases: Leases
    schedules: Schedules
    answers: Answers
    proofs: Proofs
    retention: Retention
