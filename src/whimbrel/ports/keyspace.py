"""What the key-space strip of a run needs of its batches."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.keyspace import Grid, Look


@dataclass(frozen=True, slots=True)
class LegExtent:
    """The batches of a leg: the numbers of the first and the last, and what the last tells of planning.

    `through`: documents planned in the leg; `source`: the last batch of an earlier leg that it covers; `last`: planning of its ranges has ended.
    """

    first: int
    last: int
    through: int
    source: int | None
    ended: bool


@dataclass(frozen=True, slots=True)
class KeyBounds:
    """The keys of some batches. `after`: their ranges begin behind it; None: at the beginning, or they name their documents. `through`: the last."""

    after: Key | None
    first: Key | None  # of batches that name their documents
    through: Key | None
    documents: int | None  # that were planned; None: not known without looking at each batch


class KeySpace(Protocol):
    """Looks at the batches of one leg at a cost that does not depend on how many are settled."""

    def extent(self, run_id: str, leg: int) -> LegExtent | None:
        """Returns the batches of a leg; None where it has none."""
        ...

    def look(self, run_id: str, extent: LegExtent, grid: Grid) -> Look: ...

    def bounds(self, run_id: str, first: int, last: int, part: tuple[int, int] | None) -> KeyBounds | None:
        """Returns the keys of the batches from `first` to `last`; None where these exist no more.

        `part`: of the one batch only this part, as its number from 0, and how many there are.
        """
        ...

    def states(self, run_id: str, first: int, last: int) -> Mapping[str, int]:
        """Counts those of these batches that are queued, running or cancelled."""
        ...
