"""What changes in a user's collection, as it is written."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from whimbrel.domain.bson.raw_bson import Key


@dataclass(frozen=True, slots=True)
class Change:
    """A document that was inserted, updated or replaced. `position`: directly after this change."""

    key: Key
    position: bytes
    at: datetime


class Changes(Protocol):
    """The changes behind a position, one after another, without those that a run has made itself as far as its marks tell them.

    Only changes that a majority has acknowledged.
    """

    def next(self) -> Change | None:
        """Returns the next change; None where there was none for a moment. Raises ChangesLost, Transient, Systemic."""
        ...

    @property
    def position(self) -> bytes:
        """The position behind what was read so far; also where nothing has changed, so that it does not get old."""
        ...

    def close(self) -> None: ...
