"""What the use cases need from the outside. Each method's docstring is the guarantee that its tests test.

Every method may raise Transient (will pass by itself) and Systemic (a person must look).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.changes import Change
from whimbrel.domain.failures import Failure, FailureGroup, Trouble
from whimbrel.domain.marks import Mark
from whimbrel.domain.migration import Definition
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Counts, Run
from whimbrel.domain.states import BatchStatus, RunStatus
from whimbrel.domain.updates import Update

Query = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Cuts:
    """The ends of the next chunks in `_id` order. `end`: nothing lay behind the last one."""

    keys: tuple[Key, ...]
    estimated: int
    end: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Raw documents in `_id` order. `end`: nothing else of the range was eligible."""

    documents: tuple[bytes, ...]
    end: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Write:
    """What every statement on user documents carries.

    `until`: the fence. The statement does nothing once the server's clock has passed it.
    """

    eligible: Query
    until: datetime
    mark: Mark
    token: str
    variables: Mapping[str, Any] = field(
        default_factory=dict
    )  # what a declarative pipeline may use as $$name
    reads: tuple[str, ...] | None = None


class Guarded(NamedTuple):
    """One document as it was read, and what is to become of it."""

    key: Key
    document: bytes
    change: Change


@dataclass(frozen=True, slots=True)
class Written:
    """What came of guarded writes.

    `applied`: documents that the server says it modified. `doubtful`: documents of statements that
    modified fewer than were sent, or broke off. `troubles`: documents that MongoDB refused.
    """

    applied: int
    doubtful: tuple[Guarded, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    clean: bool = True


class Documents(Protocol):
    """The user's collection, through one session of one slot."""

    def estimate(self) -> int:
        """About how many documents there are, from the collection's metadata."""
        ...

    def cuts(self, after: Key | None, eligible: Query, size: int, most: int, *, exact: bool = False) -> Cuts:
        """The ends of up to `most` chunks of `size` documents each behind `after`.

        Chunks are of eligible documents where an index serves the query in `_id` order, or where
        `exact` asks for it, else of documents of any kind (hole H15). All types of `_id` are seen, in the order of the index.
        """
        ...

    def read(self, where: Range, eligible: Query, limit: int) -> Page:
        """Eligible documents of a range, at most `limit` and at most 16 MB."""
        ...

    def read_keys(self, keys: Sequence[Key], eligible: Query) -> tuple[bytes, ...]:
        """Those of these documents that are eligible, in `_id` order."""
        ...

    def keys(self, where: Range, eligible: Query, limit: int) -> tuple[Key, ...]:
        """The keys of eligible documents of a range."""
        ...

    def nth(self, where: Range, n: int) -> Key | None:
        """The n-th key of a range, None where it holds fewer."""
        ...

    def update_range(self, where: Range, update: Update, write: Write) -> int:
        """One statement over a range, server-side: the number of documents changed.

        Raises Refused where MongoDB refused a document: others may have been changed by then, and no
        number says how many (hole H1). Raises TooSlow where the time limit of a statement ended it.
        """
        ...

    def update_keys(self, keys: Sequence[Key], update: Update, write: Write, *, group: int) -> Written:
        """The same for single documents, in statements of `group`. Doubtful are those of refused groups larger than 1."""
        ...

    def write(self, documents: Sequence[Guarded], write: Write) -> Written:
        """Write different changes to many documents, each only if it still is what was read."""
        ...

    def mark_failed(self, keys: Sequence[Key], fields: dict[str, Any], write: Write) -> None:
        """Set fields on failed documents, best effort: a validator may refuse it (hole H21)."""
        ...

    def claim(self, documents: Sequence[Guarded], fields: dict[str, Any], write: Write) -> Sequence[Trouble]:
        """Set fields on documents, each only if it still is what was read: those that MongoDB refused.

        The value "$$NOW" is the server's time.
        """
        ...

    def evidence(self, where: Range | Sequence[Key], path: str, token: str) -> Counts:
        """Count documents by the outcome in their mark, under majority read concern."""
        ...

    def tokens(self, keys: Sequence[Key], path: str) -> dict[Key, Any]:
        """The mark's value of those of these documents that have one."""
        ...

    def token_values(self, where: Range, eligible: Query, path: str) -> list[str]:
        """The distinct values of the mark among eligible documents of a range."""
        ...

    def count(self, where: Range | Sequence[Key], eligible: Query) -> int:
        """Eligible documents, under majority read concern."""
        ...

    def count_within(self, seconds: float, eligible: Query) -> int | None:
        """Eligible documents of the whole collection, None where it takes longer to count them."""
        ...


class Runs(Protocol):
    """The runs of the ledger. Every write of the ledger is majority-acknowledged and journaled."""

    def add(self, run: Run, who: str) -> Run:
        """Insert a run; its times are the server's."""
        ...

    def get(self, run_id: str) -> Run | None: ...

    def list(
        self, *, statuses: Iterable[RunStatus] | None = None, migration: str | None = None, limit: int = 100
    ) -> list[Run]:
        """Newest first."""
        ...

    def move(
        self,
        run_id: str,
        target: RunStatus,
        *,
        who: str,
        why: str = "",
        fields: Mapping[str, Any] | None = None,
    ) -> bool:
        """Change a run's status, if the table of states allows it from what it is. Audited. False where it was not so.

        Becoming `running` takes the collection: False while another run holds it (hole H26).
        """
        ...

    def next_leg(self, run: Run) -> bool:
        """Open the next phase by one conditional update. False where somebody else has."""
        ...

    def fold(self, run: Run, counts: Counts, through: int, *, inferred: bool) -> bool:
        """Add settled batches to the run's counts, once: conditional on what was folded before (hole H7)."""
        ...

    def describe(self, run_id: str, **fields: Any) -> None:
        """Set fields that decide nothing: message, estimated."""
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

    def list(
        self,
        run_id: str,
        *,
        after: int = -1,
        statuses: Iterable[BatchStatus] | None = None,
        limit: int = 1000,
    ) -> list[Batch]:
        """By `seq`."""
        ...

    def count(self, run_id: str, statuses: Iterable[BatchStatus]) -> int: ...

    def claim(self, runs: Sequence[str], *, worker: str, lsid: bytes) -> Batch | None:
        """Take the first queued batch of these runs under a lease in the server's time, by a new owner nonce."""
        ...

    def renew(self, batch: Batch) -> datetime:
        """Prolong the lease: its new end. Raises LeaseLost where the batch is another's by now."""
        ...

    def note(
        self, batch: Batch, *, at: Key | None = None, suspect: Key | None = None, before: int | None = None
    ) -> None:
        """Set these on a claimed batch: `at` and `suspect` together, or `before`. Raises LeaseLost."""
        ...

    def settle(self, batch: Batch, counts: Counts, *, inferred: bool) -> None:
        """The end of a batch. Done twice it is the same. Raises LeaseLost."""
        ...

    def release(self, batch: Batch) -> None:
        """Give a batch back before its end; it is not counted as a takeover. Nothing happens if it is another's."""
        ...

    def take_over(self, *, worker: str | None = None) -> Sequence[Batch]:
        """Queue again what lost leases hold, after ending the statements of their sessions (hole H13).

        Of one worker: at once, for its parent saw it die. Else those whose lease ended a grace ago.
        """
        ...

    def cancel(self, batch: Batch, counts: Counts, *, inferred: bool) -> None:
        """Settle a batch that nobody holds as cancelled. Nothing happens if somebody does."""
        ...

    def recent(self, run_id: str, seconds: float) -> tuple[int, float]:
        """Documents in batches settled within the last seconds, and the seconds that these span."""
        ...

    def live(self, tokens: Sequence[str]) -> tuple[set[str], set[str]]:
        """Which of these tokens name a batch at all, and which of those a running one under a live lease."""
        ...


class Failures(Protocol):
    """The failures of the ledger, and the documents that were passed over."""

    def record(self, run: Run, batch: Batch, troubles: Sequence[Trouble]) -> None:
        """Upsert a row for each: one attempt more, once per batch; open until its tries are spent, then dead."""
        ...

    def pass_over(self, run: Run, batch: Batch, outcomes: Mapping[Key, str]) -> None:
        """Remember documents as skipped or unchanged, where they cannot say so themselves."""
        ...

    def passed(self, run_id: str, token: str) -> Counts:
        """What `pass_over` remembered for a batch."""
        ...

    def excluded(self, run_id: str, where: Range) -> Sequence[Key]:
        """Documents of a range that have an unresolved row of this run."""
        ...

    def unresolved(self, run: Run, where: Range | Sequence[Key]) -> Sequence[Failure]:
        """Unresolved failures on these documents of any run of the run's migration and version."""
        ...

    def resolve(self, failures: Sequence[Failure], resolution: str) -> None: ...

    def due(self, run_id: str, limit: int) -> Sequence[Failure]:
        """Open failures whose time has come, by key."""
        ...

    def of(self, run_id: str, keys: Sequence[Key]) -> Sequence[Failure]:
        """The open rows of this run on these documents."""
        ...

    def counts(self, run_id: str) -> dict[str, int]:
        """Unresolved failures: `open`, `dead`, and of both together `failed` and `conflict`."""
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

    def step_down(self, holder: str) -> None:
        """Give up all roles of a holder."""
        ...

    def beat(self, worker: str, **facts: Any) -> None:
        """Say that a worker is alive, with its slots, and the only run that it works on if there is one."""
        ...

    def leave(self, worker: str) -> None:
        """Forget a worker that ends."""
        ...

    def slots(self, seconds: float, *, run: str | None = None, without: str = "") -> int:
        """Slots of all workers that said so within the last seconds.

        `run`: of those alone that may work on this run. `without`: not of those whose name begins with it.
        """
        ...

    def audit(self, what: str, *, run: str, who: str, why: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Ledger:
    """The durable truth about runs, batches and failures."""

    runs: Runs
    batches: Batches
    failures: Failures
    leases: Leases


class Session(Protocol):
    """What one slot does on users' collections. Another process can end it by its id (hole H13)."""

    @property
    def lsid(self) -> bytes: ...

    def documents(self, run: Run) -> Documents: ...


class Store(Protocol):
    """One MongoDB deployment: the ledger and the users' collections in it."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def database(self) -> str:
        """Where migrations without a database of their own work, and where the ledger is."""
        ...

    def session(self) -> Session: ...

    def check(self, database: str, definition: Definition, query: Query) -> None:
        """Raise where a run could not keep its promises on this collection, with the reason and what to do."""
        ...


class Broker(Protocol):
    """Delivers pointers to batches; is never asked what is true."""

    def announce(self, batches: Sequence[Batch]) -> None:
        """Tell workers that batches are queued. The ledger broker has nothing to tell: its workers look."""
        ...
