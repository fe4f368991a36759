"""A failure: the durable record of one document that could not be migrated, and what follows from it."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal

from whimbrel.domain.raw import Key
from whimbrel.domain.wording import storable


class Kind(StrEnum):
    """What went wrong, as far as it decides what to do."""

    DATA = "data"  # MongoDB refuses the document: dead at once, a retry would be refused as well
    CODE = "code"  # the function raised, returned rubbish
    HANG = "hang"  # the function did not return in time
    DEATH = "death"  # the process died while it had the document in hand
    CONFLICT = "conflict"  # the application kept changing the document under us


class FailureState(StrEnum):
    OPEN = "open"  # tried again when it is due
    DEAD = "dead"  # a dead letter: waits for a person
    RESOLVED = "resolved"
    PASSED = "passed"  # not a failure: skipped or unchanged, where the document itself cannot say so


TEXTS = (("type", 200), ("message", 2000), ("traceback", 4000))  # characters that are kept


@dataclass(frozen=True, kw_only=True, slots=True)
class Trouble:
    """What went wrong with one document, before it is recorded. Its texts can be stored, whatever it was made of.

    `final`: the mistake is the author's, and the same code would make it again.
    """

    key: Key
    kind: Kind
    type: str
    message: str
    code: int | None = None
    traceback: str = ""
    final: bool = False

    def __post_init__(self) -> None:
        for name, most in TEXTS:
            object.__setattr__(self, name, storable(getattr(self, name), most))


def death(key: Key) -> Trouble:
    """What is wrong with a document whose call has ended its process."""
    message = "The process that called the function for this document died."
    return Trouble(key=key, kind=Kind.DEATH, type="ProcessDeath", message=message)


def hang(key: Key, seconds: float) -> Trouble:
    """What is wrong with a document whose call takes longer than it may."""
    message = f"The function did not return within {seconds:g} seconds."
    return Trouble(key=key, kind=Kind.HANG, type="Timeout", message=message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A row of the ledger, one for each run and document."""

    run: str
    key: Key
    batch: str
    phase: str
    kind: Kind
    type: str
    message: str
    code: int | None
    signature: str
    traceback: str
    attempt: int
    state: FailureState
    outcome: Literal["failed", "conflict"]
    resolution: str | None
    due_at: datetime | None
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Unresolved:
    """An unresolved failure, without what went wrong."""

    run: str
    key: Key
    batch: str


@dataclass(frozen=True, slots=True)
class Due:
    """A document that shall be tried again now, and what went wrong."""

    key: Key
    kind: Kind


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failures of one cause."""

    signature: str
    kind: str
    type: str
    message: str
    open: int
    dead: int
    resolved: int
    example: Key


_VARYING = [
    (re.compile(r"ObjectId\('?[0-9a-f]{24}'?\)|\b[0-9a-f]{24}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"'[^']*'|\"[^\"]*\""), "<text>"),
    (re.compile(r"-?\d+(\.\d+)?"), "<n>"),
]


def signature(trouble: Trouble) -> str:
    """What failures of one cause have in common: kind, type, and the message without what varies."""
    text = trouble.message.partition("\n")[0][:300]
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return f"{trouble.kind}:{trouble.type}:{text}"


def group_id(signature: str) -> str:
    """A short name for a group of failures, to be typed."""
    return hashlib.sha256(signature.encode()).hexdigest()[:8]


def backoff(attempt: int, first: float, jitter: float) -> float:
    """Seconds until the next try: doubling from `first`, at most an hour, times 1 to 1.25 by `jitter` (0 to 1)."""
    return float(min(first * 2 ** (attempt - 1), 3600.0)) * (1 + jitter / 4)


def is_dead(trouble: Trouble, attempt: int, max_attempts: int) -> bool:
    """Whether nobody tries again by himself: no retry mends it, or its tries (the first included) are spent."""
    return trouble.final or trouble.kind is Kind.DATA or attempt >= max_attempts
