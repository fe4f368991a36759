"""What was read of a signal at a moment, on one host."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from whimbrel.domain.health.signals import SIGNALS, Signal


@dataclass(frozen=True, slots=True)
class Reading:
    """A value, or why there is none.

    `how`: the command that it was read by. `problem`: why it cannot be read; empty where it was. `slow`, `stop`: thresholds that go with this value, as
    of a signal that is compared with its own past; None: those of the signal. `absent`: why the signal means nothing here, as the lag of a set of one; with
    a host: why that member is left out. `lesser`: it was read by a means that needs no privilege, and shows less. `grant`: the statement that would let
    this user read it. `usual`: what it is where no run makes it worse. `shown_only`: it asks for nothing now, unless a person has set thresholds.
    """

    signal: str
    value: float | None
    host: str = ""
    how: str = ""
    problem: str = ""
    slow: float | None = None
    stop: float | None = None
    absent: str = ""
    lesser: bool = False
    grant: str = ""
    usual: float | None = None
    shown_only: bool = False


def worst_readings(
    readings: Iterable[Reading], signals: Mapping[str, Signal] = SIGNALS
) -> dict[str, Reading]:
    """Returns the worst reading of each signal over all hosts. One that cannot be read is worse than any value, one that means nothing is better."""
    worst: dict[str, Reading] = {}
    for reading in readings:
        known = worst.get(reading.signal)
        if known is None or _is_worse(signals[reading.signal], reading, known):
            worst[reading.signal] = reading
    return worst


def _is_worse(signal: Signal, reading: Reading, known: Reading) -> bool:
    if reading.absent or known.absent:
        return bool(known.absent)
    if reading.value is None or known.value is None:
        return reading.value is None and known.value is not None
    return reading.value < known.value if signal.low else reading.value > known.value
