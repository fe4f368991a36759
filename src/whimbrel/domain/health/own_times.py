"""Two canaries that Whimbrel reads and writes by itself, which need no privilege, and how long storing the verdict takes.

A canary is compared with its own past: what it takes while no run is at work, or all have next to nothing. Of the newest seconds nearly the worst counts, not
the mean, as runs work in bursts, and the application suffers in those. Usual is what most such stretches of the past took: a load, a backup or a start that
lies among them says nothing of the others.
"""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from statistics import median, median_low

from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import Level

READS = 3  # of a sample
SECONDS = 5  # samples that count
PART = 0.8  # of the newest times that are no worse than the one that counts: a single bad second of five says nothing
STORED = 10  # verdicts of which the median counts
RESTING = 60  # samples that tell what is usual
FEWEST = 5  # times, before anything is usual
OWN = ("read-canary", "write-canary", "majority-write")
LOW = 0.02  # a share so small that what a canary takes is usual: runs do not matter then
NOBODY_ELSE = "nobody else is at work on this server, whom a run could hurt"
QUIET = f"; only shown: {NOBODY_ELSE}"


def tells_what_is_usual(states: Mapping[str, SignalState], *, at_work: bool, share: float) -> bool:
    """Whether what is measured now is usual: runs have little or nothing, and nothing else is wrong that would make it worse."""
    disturbed = any(
        state.asks in (Level.SLOW, Level.STOP) for name, state in states.items() if name not in OWN
    )
    return not disturbed and (not at_work or share <= LOW)


@dataclass(slots=True)
class Canary:
    """One canary's newest times, in milliseconds. `slower`, `much_slower`: times what is usual; `least_slow`, `least_stop`: less is good enough on any server."""

    signal: str
    how: str
    slower: float
    much_slower: float
    least_slow: float
    least_stop: float
    newest: deque[float]
    resting: deque[float]

    def add(self, milliseconds: float, *, at_rest: bool) -> None:
        self.newest.append(milliseconds)
        if at_rest:
            self.resting.append(milliseconds)

    @property
    def usual(self) -> float | None:
        """What it takes where no run makes it slower, the median of stretches as long as `newest`; None: not known yet."""
        if len(self.resting) < FEWEST:
            return None
        times, length = list(self.resting), self.newest.maxlen or len(self.resting)
        stretches = [times[max(0, end - length) : end] for end in range(len(times), 0, -length)]
        return median_low([_nearly_worst(each) for each in stretches if len(each) >= FEWEST])

    def reading(self, host: str, *, quiet: bool) -> Reading:
        usual = self.usual
        return Reading(
            self.signal, _nearly_worst(self.newest), host, self.how + QUIET * quiet,
            slow=max(self.least_slow, self.slower * (usual or 0.0)), stop=max(self.least_stop, self.much_slower * (usual or 0.0)),
            usual=usual, shown_only=quiet,
        )  # fmt: skip


def _nearly_worst(times: Collection[float]) -> float:
    return sorted(times)[ceil(PART * len(times)) - 1]


def _reads() -> Canary:
    return Canary(
        "read-canary", "a find by _id, the fourth worst of 15 in 5 s", slower=2.0, much_slower=10.0, least_slow=10.0, least_stop=50.0, newest=deque(maxlen=READS * SECONDS), resting=deque(maxlen=READS * RESTING)
    )  # fmt: skip


def _writes() -> Canary:
    """The canary's own write, and the verdict's."""
    return Canary(
        "write-canary", "a small majority write, the third worst of 10 in 5 s", slower=2.0, much_slower=10.0, least_slow=12.0, least_stop=150.0, newest=deque(maxlen=2 * SECONDS), resting=deque(maxlen=2 * RESTING)
    )  # fmt: skip


@dataclass(slots=True)
class OwnTimes:
    """What this sampler has measured lately. `at_rest`: what is measured now tells what is usual."""

    reads: Canary = field(default_factory=_reads)
    writes: Canary = field(default_factory=_writes)
    stored: deque[float] = field(default_factory=lambda: deque(maxlen=STORED))
    at_rest: bool = True

    def read(self, milliseconds: float) -> None:
        """Adds a read by `_id`."""
        self.reads.add(milliseconds, at_rest=self.at_rest)

    def write(self, milliseconds: float) -> None:
        """Adds a small majority write."""
        self.writes.add(milliseconds, at_rest=self.at_rest)

    def store(self, milliseconds: float) -> None:
        """Adds what storing a verdict took."""
        self.stored.append(milliseconds)
        self.write(milliseconds)

    def forget_newest(self) -> None:
        """Forgets what was measured under another share: it says nothing of the one that holds now."""
        self.reads.newest.clear()
        self.writes.newest.clear()

    def readings(self, host: str, *, quiet: bool) -> Iterator[Reading]:
        """Yields the signals as far as they were measured. `quiet`: nobody else is at work, whom runs could hurt."""
        for canary in (self.reads, self.writes):
            if canary.newest:
                yield canary.reading(host, quiet=quiet)
        if self.stored:
            yield Reading(
                "majority-write", median(self.stored), host, f"storing the verdict, the median of {STORED}"
            )
