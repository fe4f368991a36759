"""The stretches of time in which a run waited, went slower, was paused, or nobody looked at it: a bounded number of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

MOST = 240  # that are kept of a run
LEFT = 180  # to which they are merged, once there are as many as that
LONGEST = 300  # characters that are kept of what is said of one

HoldupState = Literal[
    "waiting", "slowed", "queued", "pausing", "paused", "cancelling", "failed", "unattended"
]


@dataclass(frozen=True, slots=True)
class Holdup:
    """One of them. Where several short ones were merged, `times` tells how many, `seconds` how long all of them were, and the rest is of the longest."""

    start: float  # seconds since the epoch
    end: float
    state: HoldupState
    signal: str  # what holds it, as in the reasons of a run; empty: another reason
    said: str
    share: float = 0.0
    times: int = 1
    seconds: float = 0.0

    def until(self, end: float) -> "Holdup":
        """Returns it, having lasted until then."""
        return replace(self, end=end, seconds=self.seconds + max(0.0, end - self.end))

    def is_same(self, other: "Holdup") -> bool:
        """Whether another one goes on with this one, whatever numbers its words have."""
        return (self.state, self.signal, self.times) == (other.state, other.signal, other.times)


def began(
    start: float, state: HoldupState, *, signal: str = "", said: str = "", share: float = 0.0
) -> Holdup:
    return Holdup(start, start, state, signal, said[:LONGEST], share)


def merged_holdups(holdups: Sequence[Holdup], most: int) -> list[Holdup]:
    """Returns at most so many, in the order of their times: neighbours that lie closest together are merged."""
    kept = list(holdups)
    while len(kept) > most:
        extents = sorted(later.end - first.start for first, later in pairwise(kept))
        limit = extents[len(kept) - most - 1]
        merged, surplus = [kept[0]], len(kept) - most
        for holdup in kept[1:]:
            if surplus and holdup.end - merged[-1].start <= limit:
                merged[-1], surplus = _together(merged[-1], holdup), surplus - 1
            else:
                merged.append(holdup)
        kept = merged
    return kept


def _together(first: Holdup, later: Holdup) -> Holdup:
    longest = max(first, later, key=lambda each: each.seconds)
    return replace(
        longest, start=first.start, end=later.end, times=first.times + later.times, seconds=first.seconds + later.seconds
    )  # fmt: skip
