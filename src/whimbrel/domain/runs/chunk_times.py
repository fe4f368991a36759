"""How long chunks took, as a histogram that adds up: of a batch, and of all settled batches of a run."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, inf)  # seconds: the upper ends of its classes


@dataclass(frozen=True, slots=True)
class ChunkTimes:
    """`numbers`: how many chunks took at most so long, and longer than the class before. `seconds`: of all together."""

    numbers: tuple[int, ...] = (0,) * len(BOUNDS)
    seconds: float = 0.0

    def __add__(self, other: "ChunkTimes") -> "ChunkTimes":
        numbers = tuple(map(sum, zip(self.numbers, other.numbers, strict=True)))
        return ChunkTimes(numbers, self.seconds + other.seconds)

    def with_one(self, seconds: float) -> "ChunkTimes":
        """Returns the same with one chunk more."""
        place = bisect_left(BOUNDS, seconds)
        return ChunkTimes(
            (*self.numbers[:place], self.numbers[place] + 1, *self.numbers[place + 1 :]),
            self.seconds + seconds,
        )

    @property
    def cumulative(self) -> Iterator[tuple[float, int]]:
        """Yields how many took at most as long as each bound."""
        total = 0
        for bound, number in zip(BOUNDS, self.numbers, strict=True):
            total += number
            yield bound, total
