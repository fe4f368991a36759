"""What failures of one cause have in common: the error's type, the author's own frame, and a template of the message."""

import hashlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache

from whimbrel.domain.failures.failure import FailedDocument, FailureKind

GROUPS = 500  # of one run at most; other failures go to `OTHERS` of their kind
VARIANTS = 5  # messages that are told apart for one place in the code: more would be texts of documents
WITHOUT_PLACE = 20  # the same without a place: of a refusal by MongoDB only the message tells the cause
VARIOUS = "<various messages>"
OTHERS = "<other causes>"
LENGTH = 300  # characters of a message that are examined

# What varies from document to document. Quotes count at the edge of a word only: "can't" holds none.
_VARYING = [
    (re.compile(r"\bObjectId\(['\"]?[0-9a-f]{24}['\"]?\)|\b[0-9a-f]{24}\b", re.IGNORECASE), "<id>"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.IGNORECASE), "<uuid>"),
    (re.compile(r"(?<!\w)'.*?'(?!\w)|(?<!\w)\".*?\"(?!\w)|`[^`]*`|\u201c[^\u201d]*\u201d"), "<text>"),
    (re.compile(r"\b0x[0-9a-f]+\b|\b(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{8,}\b", re.IGNORECASE), "<hex>"),
    (re.compile(r"(?<![\w.])-?\d+(\.\d+)?([eE][+-]?\d+)?|\d+"), "<n>"),
]
_NESTED = [(re.compile(r"\{[^{}]*\}"), "<object>"), (re.compile(r"\[[^\[\]]*\]"), "<list>")]
_DEPTH = 5  # of nested objects in a message that are replaced by one word


@dataclass(frozen=True, slots=True)
class Cause:
    """`place`: file, line and function of the author's code where it was raised; empty where it was not raised by the author's code."""

    kind: FailureKind
    type: str
    place: str
    template: str

    @property
    def signature(self) -> str:
        """The whole cause as one text."""
        return ":".join((self.kind, self.type, *([self.place] if self.place else []), self.template))

    @property
    def id(self) -> str:
        """A short name that can be typed."""
        return hashlib.sha256(self.signature.encode()).hexdigest()[:8]

    @property
    def family(self) -> "Cause":
        """All messages of this type of error at this place."""
        return replace(self, template=VARIOUS)

    @property
    def others(self) -> "Cause":
        """All other causes of this kind."""
        return Cause(self.kind, OTHERS, "", VARIOUS)

    @property
    def variants(self) -> int:
        """How many messages of its family are told apart."""
        return VARIANTS if self.place else WITHOUT_PLACE


def cause(failure: FailedDocument) -> Cause:
    return Cause(failure.kind, failure.type, failure.place, message_template(failure.message))


@lru_cache(1024)
def message_template(message: str) -> str:
    """Returns the first line of a message, with a word for each part that varies from document to document."""
    text = message.partition("\n")[0][:LENGTH]
    for _ in range(_DEPTH):
        shorter = text
        for pattern, word in _NESTED:
            shorter = pattern.sub(word, shorter)
        if shorter == text:
            break
        text = shorter
    for pattern, word in _VARYING:
        text = pattern.sub(word, text)
    return text


@dataclass(frozen=True, slots=True)
class GroupCount:
    """Failures of one cause, by state. `conflict`: how many of the open and dead ones are conflicts."""

    open: int = 0
    dead: int = 0
    resolved: int = 0
    conflict: int = 0

    def __add__(self, other: "GroupCount") -> "GroupCount":
        return GroupCount(
            self.open + other.open,
            self.dead + other.dead,
            self.resolved + other.resolved,
            self.conflict + other.conflict,
        )

    @property
    def unresolved(self) -> int:
        return self.open + self.dead
