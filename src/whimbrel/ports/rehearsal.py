"""What a dry run asks: of the database, which documents would become of these; of the function, what it makes of one."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.changes import Change
from whimbrel.domain.runs.run import Run
from whimbrel.ports.documents import GuardedChange, Write
from whimbrel.ports.survey import Query

Choice = Literal["random", "oldest", "newest", "largest"]


@dataclass(frozen=True, slots=True)
class Validator:
    """A collection's validator. `strict`: also documents that break it already must satisfy it. `refuses`: it does not only warn."""

    query: dict[str, Any]
    strict: bool
    refuses: bool


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index, other than that on `_id`."""

    name: str
    fields: tuple[str, ...]
    sparse: bool
    partial: dict[str, Any] | None
    collation: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Clash:
    """Two documents that would have the same key in a unique index. `stored`: `other` is one that is not in the sample."""

    index: str
    key: Key
    other: Key
    stored: bool


class Rehearsal(Protocol):
    """The user's collection, only read; and MongoDB's own engine over documents that are not stored.

    Every method may raise TooSlow.
    """

    def sample(self, choice: Choice, eligible: Query, size: int) -> tuple[bytes, ...]:
        """Eligible documents: the first or last by `_id`, the largest, or random ones.

        Of random ones there may be fewer than are eligible, where looking at all would take too long.
        """
        ...

    def after(self, guarded: GuardedChange, write: Write) -> bytes | FailedDocument:
        """The document after its change and mark, or why MongoDB would refuse it. Raises Untranslatable."""
        ...

    def satisfying(self, query: Query, documents: Sequence[bytes]) -> frozenset[Key]:
        """Which of these documents satisfy a query, by the collation of the collection."""
        ...

    def index(self, eligible: Query) -> str | None:
        """The index by which MongoDB would select documents; None: it would look at all of them."""
        ...

    def validator(self) -> Validator | None: ...

    def unique_indexes(self) -> tuple[UniqueIndex, ...]: ...

    def clashes(self, index: UniqueIndex, documents: Sequence[bytes]) -> tuple[Clash, ...] | None:
        """Documents that the index would refuse, among these and against others. None: it is too involved to tell."""
        ...


@dataclass(frozen=True, slots=True)
class FunctionAnswer:
    """What a function made of a document. `naive`: fields of its answer that hold times without a zone. `values`: see `CodeFiles`."""

    outcome: Change | FailedDocument
    seconds: float = 0.0
    naive: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)


class Caller(Protocol):
    """A function in a process of its own."""

    def call(self, document: bytes, seconds: float) -> FunctionAnswer:
        """What it makes of a raw document, within so many seconds. What hangs or dies is that document's failure, and the next one finds a new process."""
        ...


Callers = Callable[[Run], AbstractContextManager[Caller]]
"""A new process for the function of a run, ended on leaving. Raises DefinitionInvalid where its code cannot be loaded."""
