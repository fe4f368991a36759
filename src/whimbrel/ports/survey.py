"""Questions about a whole collection, none of which needs one statement over all of it."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Range

Query = dict[str, Any]


class Survey(Protocol):
    """What is asked is answered by an index that yields the documents, by slices of `_id` one after another, or by a random sample.

    A statement looks at no more documents than a slice has, or than an index yields. Every method may raise TooSlow, where even
    such a statement takes too long.
    """

    def size(self) -> int:
        """About how many documents there are, from the collection's metadata."""
        ...

    def count(self, query: Query, seconds: float) -> int | None:
        """Documents that satisfy a query; None where counting them takes longer."""
        ...

    def exists(self, query: Query, seconds: float) -> bool | None:
        """Whether one does; None where looking for it takes longer."""
        ...

    def about(self, query: Query) -> tuple[int, bool]:
        """How many do, and whether that is exact, from a few short statements."""
        ...

    def share(self, query: Query) -> float:
        """About which part of the documents does, from a random sample."""
        ...

    def few(self, query: Query) -> bool:
        """Whether an index yields the documents of a query, and they are a small part of the collection."""
        ...

    def slices(self, query: Query) -> Iterator[Range]:
        """The ranges that are looked at one after another."""
        ...

    def gather(self, query: Query) -> Iterator[Sequence[Key]]:
        """The keys of all documents that satisfy a query, by the index that yields them, in no order; one may come twice."""
        ...

    def walk(self, query: Query, after: Key | None) -> Iterator[Sequence[Key]]:
        """The same behind `after`, in `_id` order, slice by slice: a slice may have none."""
        ...
