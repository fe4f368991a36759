"""Takes what the sampler measures by itself: a few reads and a small write at each sample, and what storing the verdict takes."""

import contextlib
import time
from collections.abc import Iterator

from whimbrel.domain.health.others_at_work import OthersAtWork
from whimbrel.domain.health.own_times import READS, OwnTimes
from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.share import Share, first_share
from whimbrel.errors import Transient
from whimbrel.ports.health import HealthRecords

WITHIN = 1.0  # seconds that the small write may take: it counts as so long where it takes longer


class Canaries:
    """One sampler's canaries, and whether there is anybody to be spared by them."""

    def __init__(self, records: HealthRecords) -> None:
        self._records = records
        self._times, self._others = OwnTimes(), OthersAtWork()
        self._shared = False  # a run and others were at work at the last sample

    def measure(self, *, at_rest: bool) -> None:
        """Reads and writes. `at_rest`: that tells what is usual. Raises Transient where reading is not possible."""
        self._times.at_rest = at_rest
        for _ in range(READS):
            began = time.perf_counter()
            self._records.read_canary()
            self._times.read(_milliseconds(began))
        if self._times.stored and self._times.stored[-1] >= WITHIN * 1000:
            return  # storing the verdict has just told it: a sample must not take seconds
        began = time.perf_counter()
        with contextlib.suppress(Transient):
            self._records.write_canary(WITHIN)
        self._times.write(_milliseconds(began))

    @contextlib.contextmanager
    def storing(self) -> Iterator[None]:
        """Surrounds the storing of the verdict."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._times.store(_milliseconds(began))

    def others(self, operations: float | None) -> None:
        """Tells how many operations of others are under way; None: it cannot be read."""
        self._others.add(operations)

    def readings(self, host: str) -> Iterator[Reading]:
        return self._times.readings(host, quiet=self._others.absent)

    def first(self, share: Share, now: float, *, at_work: bool) -> Share:
        """Returns the share to go on from: a small one where a run and others begin to be at work together."""
        shared = at_work and self._others.seen
        begins, self._shared = shared and not self._shared, shared
        return first_share(share, now) if begins else share

    def forget_newest(self) -> None:
        """Forgets what was measured under another share."""
        self._times.forget_newest()


def _milliseconds(began: float) -> float:
    return (time.perf_counter() - began) * 1000
