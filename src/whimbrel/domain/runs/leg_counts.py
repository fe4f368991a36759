"""What became of the documents of each leg of a run, as far as its batches are added up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LegCounts:
    """Documents by outcome, as in `Counts`, and the settled batches that they are from."""

    changed: int = 0
    unchanged: int = 0
    skipped: int = 0
    batches: int = 0

    def __add__(self, other: "LegCounts") -> "LegCounts":
        return LegCounts(
            self.changed + other.changed, self.unchanged + other.unchanged, self.skipped + other.skipped, self.batches + other.batches,
        )  # fmt: skip


def summed(by_leg: Mapping[int, LegCounts]) -> LegCounts:
    return sum(by_leg.values(), LegCounts())


def by_leg_of(batches: Sequence[tuple[int, LegCounts]]) -> dict[int, LegCounts]:
    """Adds up batches by their leg."""
    by_leg: dict[int, LegCounts] = {}
    for leg, counts in batches:
        by_leg[leg] = by_leg.get(leg, LegCounts()) + counts
    return by_leg
