"""What a dry run needs: from the database, what documents would become; from the function, what it makes of one."""

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
    """A collection's validator. `strict`: documents that already break it must satisfy it too. `refuses`: it does not only warn."""

    query: dict[str, Any]
    strict: bool
    refuses: bool


@dataclass(frozen=True, slots=True)
class UniqueIndex:
    """A unique index, other than the one on `_id`."""

    name: str
    fields: tuple[str, ...]
    sparse: bool
    partial: dict[str, Any] | None
    collation: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Clash:
    """Two documents that would have the same key in a unique index. `stored`: `other` is not in the sample."""

    index: str
    key: Key
    other: Key
    stored: bool


class Rehearsal(Protocol):
    """The user's collection, only read; and MongoDB's own engine over documents that are not stored.

    Every method may raise TooSlow.
    """

    def sample(self, choice: Choice, eligible: Query, size: int) -> tuple[bytes, ...]:
        """Returns eligible documents: the first or last by `_id`, the largest, or random ones.

        There may be fewer random ones than are eligible, where examining all would take too long.
        """
        ...

    def after(self, guarded: GuardedChange, write: Write) -> bytes | FailedDocument:
        """Returns the document after its change and mark, or why MongoDB would refuse it. Raises Untranslatable."""
        ...

    def satisfying(self, query: Query, documents: Sequence[bytes]) -> frozenset[Key]:
        """Returns which of these documents satisfy a query, by the collation of the collection."""
        ...

    def index(self, eligible: Query) -> str | None:
        """Returns the index by which MongoDB would select documents; None: it would examine all of them."""
        ...

    def validator(self) -> Validator | None: ...

    def unique_indexes(self) -> tuple[UniqueIndex, ...]: ...

    def clashes(self, index: UniqueIndex, documents: Sequence[bytes]) -> tuple[Clash, ...] | None:
        """Returns documents that the index would refuse, among these and against others. None: that is too complex to tell."""
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
        """Returns what it makes of a raw document, within so many seconds. If the call hangs or dies, that is this document's failure, and the next one gets a new process."""
        ...


Callers = Callable[[Run], AbstractContextManager[Caller]]
"""Starts a process for the function of a run, which ends on leaving. Raises DefinitionInvalid where its code cannot be loaded."""
