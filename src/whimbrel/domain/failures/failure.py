"""A failure: the durable record of one document that could not be migrated, and what follows from it."""

import base64
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

import bson
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.retry_policy import DOCUMENTS, attempts_of
from whimbrel.domain.failures.trend import Trend
from whimbrel.domain.text.safe_text import storable
from whimbrel.errors import CursorInvalid


class FailureKind(StrEnum):
    """What went wrong, as far as it decides what to do."""

    DATA = "data"  # MongoDB refuses the document: dead at once, for a retry would be refused as well
    CODE = "code"  # the function raised, or returned something unusable
    HANG = "hang"  # the function did not return in time
    DEATH = "death"  # the process died while it worked on the document
    CONFLICT = "conflict"  # the application kept changing the document meanwhile


class FailureState(StrEnum):
    OPEN = "open"  # tried again when it is due
    DEAD = "dead"  # a dead letter: waits for a person
    RESOLVED = "resolved"
    PASSED = "passed"  # not a failure: skipped or unchanged, where the document itself cannot tell it


NO_CURSOR = "That is no cursor of this list. Take the one that the page before named, or none."

# Characters that are stored.
TEXTS = (("type", 200), ("message", 2000), ("traceback", 4000), ("place", 200))


@dataclass(frozen=True, kw_only=True, slots=True)
class FailedDocument:
    """What went wrong with one document, before it is recorded. Its texts can be stored, whatever they were made of.

    `final`: the mistake is the author's, and the same code would make it again.
    `place`: where in the author's code; empty where none of it was running.
    """

    key: Key
    kind: FailureKind
    type: str
    message: str
    code: int | None = None
    traceback: str = ""
    final: bool = False
    place: str = ""

    def __post_init__(self) -> None:
        for name, length in TEXTS:
            object.__setattr__(self, name, storable(getattr(self, name), length))


def process_death(key: Key) -> FailedDocument:
    """Returns the failure of a document whose call has ended its process."""
    message = "The process that called the function for this document died."
    return FailedDocument(key=key, kind=FailureKind.DEATH, type="ProcessDeath", message=message)


def hung_call(key: Key, seconds: float) -> FailedDocument:
    """Returns the failure of a document whose call takes longer than it may."""
    message = f"The function did not return within {seconds:g} seconds."
    return FailedDocument(key=key, kind=FailureKind.HANG, type="Timeout", message=message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A row of the ledger, one for each run and document."""

    run: str
    key: Key
    batch: str
    phase: str
    kind: FailureKind
    type: str
    message: str
    code: int | None
    group: str
    traceback: str
    attempt: int
    state: FailureState
    outcome: Literal["failed", "conflict"]
    resolution: str | None
    due_at: datetime | None
    first_at: datetime
    last_at: datetime

    @property
    def place(self) -> "FailurePlace":
        """Its place in the list of its run's failures."""
        return FailurePlace(self.state, self.group, self.key)


@dataclass(frozen=True, slots=True)
class Unresolved:
    """An unresolved failure, without what went wrong."""

    run: str
    key: Key
    batch: str


@dataclass(frozen=True, slots=True)
class DueRetry:
    """A document that has to be tried again now, and what went wrong."""

    key: Key
    kind: FailureKind


@dataclass(frozen=True, slots=True)
class OpenFailure:
    """An open failure, without what went wrong: the batch that met it last, and how many attempts there were."""

    key: Key
    batch: str
    attempt: int


@dataclass(frozen=True, slots=True)
class FailureStanding:
    """What became of a failure."""

    key: Key
    state: FailureState
    resolution: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FailureGroup:
    """Failures of one cause. `group`: its short name; `message` and `example`: of one of them, if possible a dead one.

    `code`: of MongoDB, None where it has none, several, or it is not known. `trend`: when it was met; None where an earlier version did not keep it.
    """

    group: str
    signature: str
    kind: str
    type: str
    place: str
    message: str
    open: int
    dead: int
    resolved: int
    example: Key
    code: int | None = None
    trend: Trend | None = None

    def of(self, state: FailureState) -> int:
        """Returns how many are in this state."""
        return {FailureState.OPEN: self.open, FailureState.DEAD: self.dead}.get(state, self.resolved)


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupPage:
    """Groups of a run, those with most dead failures first, then those with most open ones.

    `after`: the cursor for the next page, None where there is none. `rest`: how many groups follow, and
    how many failures of each state are in them.
    """

    groups: tuple[FailureGroup, ...]
    after: str | None
    rest: int
    open: int = 0
    dead: int = 0
    resolved: int = 0


@dataclass(frozen=True, slots=True)
class FailurePlace:
    """A place in the list of a run's failures: by state, group and key."""

    state: FailureState
    group: str
    key: Key

    @property
    def cursor(self) -> str:
        """The place as text that means nothing to people."""
        place = {"s": str(self.state), "g": self.group, "k": self.key.document}
        return base64.urlsafe_b64encode(bson.encode(place)).decode()

    @classmethod
    def of(cls, cursor: str) -> "FailurePlace":
        """Reads a cursor. Raises CursorInvalid."""
        try:
            place = RawBSONDocument(base64.b64decode(cursor.encode(), b"-_", validate=True))
            state, key, group = FailureState(place["s"]), Key(place["k"].raw), place["g"]
            complete = (
                list(place) == ["s", "g", "k"] and list(place["k"]) == ["_id"] and isinstance(group, str)
            )
        except (ValueError, LookupError, TypeError, AttributeError, InvalidBSON) as error:
            raise CursorInvalid(NO_CURSOR) from error
        if not complete or state is FailureState.PASSED:
            raise CursorInvalid(NO_CURSOR)
        return cls(state, group, key)


def backoff(attempt: int, first: float, jitter: float, kind: FailureKind = FailureKind.CODE) -> float:
    """Returns the seconds until the next attempt of a document, doubling from `first`, by `jitter` (0 to 1)."""
    return DOCUMENTS[kind].delay_from(first, attempt, jitter)


def is_dead(failure: FailedDocument, attempt: int, max_attempts: int) -> bool:
    """Whether it is not tried again automatically: no retry would help, or its attempts (the first included) are spent."""
    return attempt >= attempts_of(failure.kind, max_attempts, final=failure.final)
