"""Examining the user's collection without changing it, under majority read concern."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch, Range
from whimbrel.ports.page import Page
from whimbrel.ports.survey import Query


@dataclass(frozen=True, slots=True)
class Marked:
    """Documents of a range with the same value of the mark. `value`: None where it is not a text, or missing.

    `low`, `high`: the first and the last of them by `_id`.
    """

    value: str | None
    missing: bool
    count: int
    low: Key
    high: Key


class Examiner(Protocol):
    """Every method only reads; none takes longer than a statement may (TooSlow)."""

    def marks(self, where: Range, path: str) -> Sequence[Marked]:
        """Groups all documents of a range by the value of the mark at this path."""
        ...

    def count(self, where: Range, query: Query) -> int:
        """Counts the documents of a range that match."""
        ...

    def keys(self, where: Range | Sequence[Key], query: Query, limit: int) -> Sequence[Key]:
        """Returns the first matching documents, by `_id`."""
        ...

    def read(
        self, where: Range | Sequence[Key], query: Query, limit: int, *, after: Key | None = None
    ) -> Page:
        """Returns the same as raw documents, at most 16 MB of them. `after`: of named documents, only those behind this one."""
        ...

    def outside(self, where: Range, batch: Batch, query: Query, limit: int) -> tuple[int, Sequence[Key]]:
        """Counts the documents of a range that match, but are not in the range of this batch; returns also the first of them."""
        ...

    def applied(
        self, keys: Sequence[Key], stages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> Sequence[bytes]:
        """Returns these documents in `_id` order, as an update pipeline would make them. Nothing is written.

        Raises Refused where MongoDB could not apply it to one of them.
        """
        ...
