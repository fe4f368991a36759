"""Answers that were given, so that a request which is sent again is not carried out again."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What is remembered of a request: `status` is None while it is carried out, or if that was interrupted."""

    fingerprint: str  # of the request's body
    status: int | None
    body: bytes


class Answers(Protocol):
    """The answers, remembered for a day."""

    def begin(self, key: str, fingerprint: str) -> GivenAnswer | None:
        """Records that a request is carried out now. Returns None if it is new, otherwise what is remembered of it."""
        ...

    def finish(self, key: str, status: int, body: bytes) -> None:
        """Remembers the answer."""
        ...

    def forget(self, key: str) -> None:
        """Forgets a request that was not carried out after all: it may be sent again."""
        ...
