"""Questions about a whole collection, none of which needs one statement over all of it."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Range

Query = dict[str, Any]


class Survey(Protocol):
    """Answers by an index that yields the documents, by slices of `_id` one after another, or by a random sample.

    A statement examines no more documents than a slice has, or than an index yields. Every method may raise TooSlow, where even
    such a statement takes too long.
    """

    def size(self) -> int:
        """Returns about how many documents there are, from the collection's metadata."""
        ...

    def count(self, query: Query, seconds: float) -> int | None:
        """Counts the documents that satisfy a query; None where that takes longer."""
        ...

    def exists(self, query: Query, seconds: float) -> bool | None:
        """Whether a document satisfies a query; None where finding out takes longer."""
        ...

    def about(self, query: Query) -> tuple[int, bool]:
        """Returns about how many documents satisfy a query, and whether that is exact, from a few short statements."""
        ...

    def share(self, query: Query) -> float:
        """Returns about which part of the documents satisfies a query, from a random sample."""
        ...

    def few(self, query: Query) -> bool:
        """Whether an index yields the documents of a query, and they are a small part of the collection."""
        ...

    def slices(self, query: Query) -> Iterator[Range]:
        """Yields the ranges that are examined one after another."""
        ...

    def spread(self, query: Query, size: int) -> Sequence[Key]:
        """Returns about `size` keys in `_id` order, evenly spread over the documents that satisfy a query, as far as a random sample tells.

        Where a sample meets none of these, over all documents.
        """
        ...

    def gather(self, query: Query) -> Iterator[Sequence[Key]]:
        """Yields the keys of all documents that satisfy a query, by the index that yields them, in any order; a key may come twice."""
        ...

    def walk(self, query: Query, after: Key | None) -> Iterator[Sequence[Key]]:
        """Yields the same behind `after`, in `_id` order, slice by slice: a slice may have none."""
        ...
