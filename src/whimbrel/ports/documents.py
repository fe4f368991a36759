"""The user's collections."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from typing import Any, NamedTuple, Protocol

from bson.timestamp import Timestamp

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.before_images import UndoStages
from whimbrel.domain.migrations.changes import Change, Skipped, Unchanged
from whimbrel.domain.migrations.marks import CHANGED, SKIPPED, UNCHANGED, Mark
from whimbrel.domain.migrations.updates import Update
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.run import Counts
from whimbrel.ports.examiner import Examiner
from whimbrel.ports.page import Page
from whimbrel.ports.survey import Query, Survey


@dataclass(frozen=True, slots=True)
class CutPoints:
    """The ends of the next chunks in `_id` order. `end`: nothing lay behind the last one."""

    keys: tuple[Key, ...]
    estimated: int
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
    # What a declarative pipeline may use as $$name.
    variables: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] | None = None
    undo: UndoStages | None = None


class GuardedChange(NamedTuple):
    """One document as it was read, and what it is to become."""

    key: Key
    document: bytes
    change: Change

    @property
    def outcome(self) -> str:
        if isinstance(self.change, Skipped):
            return SKIPPED
        return UNCHANGED if isinstance(self.change, Unchanged) else CHANGED


@dataclass(frozen=True, slots=True)
class Written:
    """The result of guarded writes.

    `applied`: documents that the server reports as modified. `doubtful`: documents of statements that
    modified fewer than were sent, or were aborted. `refused`: documents that MongoDB refused.
    """

    applied: int
    doubtful: tuple[GuardedChange, ...] = ()
    refused: tuple[FailedDocument, ...] = ()
    clean: bool = True


class Documents(Protocol):
    """The user's collection, through one session of one slot."""

    @property
    def examiner(self) -> Examiner:
        """For reading the collection only."""
        ...

    def check_identity(self) -> None:
        """Raises CollectionReplaced where the collection of the run's name is not the one that the run is bound to."""
        ...

    def quiet(self) -> bool:
        """Whether no statement that was sent can change a document any more.

        Each call tells the statements without an answer to end. Raises Transient.
        """
        ...

    @property
    def time(self) -> Timestamp | None:
        """The cluster's time of the last answer; None with a stand-alone server, and before the first."""
        ...

    def survey(self, size: int) -> Survey:
        """Returns what answers questions about the whole collection, in slices of so many documents."""
        ...

    def cuts(
        self, after: Key | None, eligible: Query, size: int, most: int, seconds: float = inf
    ) -> CutPoints:
        """Returns the ends of up to `most` chunks of `size` documents each behind `after`; fewer, but at least one, where that takes longer than so many seconds.

        Chunks are of eligible documents where an index serves the query in `_id` order, otherwise of documents of any kind
        (hole H15). All types of `_id` are seen, in the order of the index.
        """
        ...

    def read(self, where: Range, eligible: Query, limit: int) -> Page:
        """Reads eligible documents of a range, at most `limit` and at most 16 MB. Raises TooSlow."""
        ...

    def read_named(self, keys: Sequence[Key], eligible: Query, after: Key | None = None) -> Page:
        """Reads those of these documents that are eligible and lie behind `after`, at most 16 MB of them. Raises TooSlow."""
        ...

    def read_keys(self, keys: Sequence[Key], eligible: Query) -> tuple[bytes, ...]:
        """Reads all of these documents that are eligible, in `_id` order."""
        ...

    def present(self, keys: Sequence[Key]) -> tuple[Key, ...]:
        """Returns those of these documents that exist, by their stored keys: int 5 may be stored as double 5.0."""
        ...

    def keys(self, where: Range, eligible: Query, limit: int) -> tuple[Key, ...]:
        """Returns the keys of eligible documents of a range."""
        ...

    def nth(self, where: Range, n: int) -> Key | None:
        """Returns the n-th key of a range, None where it holds fewer."""
        ...

    def update_range(self, where: Range, update: Update, write: Write) -> int:
        """Updates a range by one statement in the server. Returns the number of documents changed.

        Raises Refused where MongoDB refused a document: others may have been changed by then, and no
        number tells how many (hole H1). Raises TooSlow where the time limit of a statement ended it.
        """
        ...

    def update_keys(self, keys: Sequence[Key], update: Update, write: Write, *, group: int) -> Written:
        """Updates single documents, in statements of `group`. Documents of refused groups larger than 1 are doubtful."""
        ...

    def write(self, documents: Sequence[GuardedChange], write: Write) -> Written:
        """Writes different changes to many documents, each only if it still is what was read."""
        ...

    def mark_failed(self, keys: Sequence[Key], fields: dict[str, Any], write: Write) -> None:
        """Sets fields on failed documents, best effort: a validator may refuse it (hole H21)."""
        ...

    def claim(
        self, documents: Sequence[GuardedChange], fields: dict[str, Any], write: Write
    ) -> Sequence[FailedDocument]:
        """Sets fields on documents, each only if it still is what was read. Returns those that MongoDB refused.

        The value "$$NOW" is the server's time.
        """
        ...

    def evidence(self, where: Range | Sequence[Key], path: str, token: str) -> Counts:
        """Counts documents by the outcome in their mark, under majority read concern."""
        ...

    def tokens(self, keys: Sequence[Key], path: str) -> dict[Key, Any]:
        """Returns the mark's value of those of these documents that have one."""
        ...

    def served(self, eligible: Query) -> bool:
        """Whether an index yields the documents of a query, or nearly, in `_id` order."""
        ...

    def holders(
        self, where: Range | Sequence[Key], query: Query, status: str, path: str
    ) -> Mapping[tuple[str, str | None], int]:
        """Counts documents by their status and the mark's text, None where it is not a text. Raises TooSlow."""
        ...

    def bearing(self, where: Range, eligible: Query, path: str, limit: int) -> list[tuple[Key, str | None]]:
        """Returns eligible documents of a range in `_id` order, at most `limit`, each with its mark's text, if it has one."""
        ...

    def reset(
        self, bearers: Mapping[str | None, Sequence[Key]], eligible: Query, path: str, update: Update
    ) -> int:
        """Changes eligible documents, each only while its mark is the one that it is listed under. Returns about how many.

        What MongoDB refuses is left as it is.
        """
        ...

    def count(self, where: Range | Sequence[Key], eligible: Query) -> int:
        """Counts eligible documents, under majority read concern."""
        ...

    def count_at(self, time: Timestamp | None, where: Range | Sequence[Key], eligible: Query) -> int | None:
        """Counts eligible documents as they were at a time of the cluster; None where MongoDB does not remember that time.

        It remembers five minutes (`minSnapshotHistoryWindowInSeconds`), also through a crash; a stand-alone server remembers nothing.
        """
        ...

    def weigh(self, eligible: Query, paths: Sequence[str], seconds: float) -> tuple[int, int, bool]:
        """Returns how many documents are eligible, the bytes of these paths in them, and whether that is exact.

        Where examining all of them takes longer, it is an estimate from a random sample.
        """
        ...

    def explain(self, where: Range | Sequence[Key], update: Update | None, write: Write) -> str:
        """Describes a statement over these documents and MongoDB's plan for it, in a sentence. `update` None: a read."""
        ...
