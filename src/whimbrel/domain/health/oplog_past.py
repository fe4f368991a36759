"""Judges how far the oplog reaches back by how far it did before runs were at work.

An oplog that has never reached back for hours, as that of a small or busy server, is no reason to hold a run back for ever. One that a run makes much
shorter is: a member that is down for longer must be built anew.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.signals import SIGNALS

OPLOG = SIGNALS["oplog-window"]
SLOW, STOP = 0.5, 0.25  # of what it was before


@dataclass(slots=True)
class OplogPast:
    """How far it reached back, in hours, while no run was at work; or when it was read first. None: it was never read, or was not full."""

    usual: float | None = None

    def judged(self, readings: Iterable[Reading], *, at_work: bool) -> Iterator[Reading]:
        """Yields the readings, that of the oplog with its own thresholds."""
        for reading in readings:
            if reading.signal == OPLOG.name and reading.value is not None:
                yield self._judged(reading, reading.value, at_work=at_work)
            else:
                yield reading

    def _judged(self, reading: Reading, hours: float, *, at_work: bool) -> Reading:
        if not at_work or self.usual is None:
            self.usual = hours
        slow, stop = SLOW * self.usual, STOP * self.usual
        shorter = slow < (OPLOG.slow or 0.0)
        return replace(
            reading, slow=min(OPLOG.slow or 0.0, slow), stop=min(OPLOG.stop or 0.0, stop), usual=self.usual if shorter else None
        )  # fmt: skip
