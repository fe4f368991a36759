"""Two signals that Whimbrel measures by itself, which need no privilege: how long its own read and its own majority write take."""

from collections import deque
from dataclasses import dataclass, field
from statistics import median

from whimbrel.domain.health.readings import Reading

READS = 20  # of which the median counts
WRITES = 10
SLOWER, MUCH_SLOWER = 2.0, 5.0  # times the baseline
LEAST_SLOW, LEAST_STOP = 10.0, 50.0  # milliseconds: less is good enough on any server


@dataclass(slots=True)
class OwnTimes:
    """The newest times, in milliseconds, and what a read takes while no run is at work."""

    reads: deque[float] = field(default_factory=lambda: deque(maxlen=READS))
    writes: deque[float] = field(default_factory=lambda: deque(maxlen=WRITES))
    resting: deque[float] = field(default_factory=lambda: deque(maxlen=READS))

    def read(self, milliseconds: float, *, at_rest: bool) -> None:
        """Adds a read by `_id`. `at_rest`: no run is at work, or all of them wait."""
        self.reads.append(milliseconds)
        if at_rest:
            self.resting.append(milliseconds)

    def readings(self, host: str) -> tuple[Reading, ...]:
        """Returns both signals as far as they were measured."""
        found = []
        if self.reads:
            baseline = median(self.resting) if self.resting else 0.0
            found.append(
                Reading(
                    "read-canary", median(self.reads), host, "a find by _id, the median of 20",
                    slow=max(LEAST_SLOW, SLOWER * baseline), stop=max(LEAST_STOP, MUCH_SLOWER * baseline),
                )
            )  # fmt: skip
        if self.writes:
            found.append(
                Reading("majority-write", median(self.writes), host, "storing the verdict, the median of 10")
            )
        return tuple(found)
