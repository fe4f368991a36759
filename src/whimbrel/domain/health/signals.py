"""The signals of a database's health: what each measures, and from which value on runs go slower, or stop.

The thresholds follow those of gh-ost, pt-online-schema-change and Vitess, and MongoDB's and WiredTiger's own limits;
`docs/health.md` gives the reason for each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from whimbrel.errors import SignalUnknown, ThresholdsRefused

HOLD = 5.0  # seconds for which a signal must be good before it counts as good again
CLEAR = 0.7  # the part of a threshold that it must be under meanwhile
WHOLE = 100.0  # percent


class Level(StrEnum):
    """What a signal, or all of them together, asks for."""

    OK = "ok"
    SLOW = "slow"
    STOP = "stop"
    UNKNOWN = "unknown"  # never read by this cluster's user: it asks for nothing

    @property
    def rank(self) -> int:
        """How much it asks for."""
        return {Level.SLOW: 1, Level.STOP: 2}.get(self, 0)


class Reads(StrEnum):
    """What a user must be granted for a signal to be read."""

    NOTHING = "nothing"  # readWrite on the database is enough
    MONITOR = "clusterMonitor"


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """A row of the table. Thresholds are in `unit`; None: the signal never asks for that level.

    `low`: small values are bad. `slow_after`, `stop_after`: so many bad samples in a row, one a second. `hold`: seconds until it is
    good again. `floor`: the share that is left at least while the signal is slow: going slower does not cure a disk that fills up.
    `state`: the value says whether something is so, and no measure of it, so that reasons do not show it. `shown_only`: it has no thresholds but those that
    a person sets.
    """

    name: str
    title: str
    unit: str
    slow: float | None
    stop: float | None
    needs: Reads = Reads.MONITOR
    low: bool = False
    slow_after: int = 2
    stop_after: int = 2
    hold: float = HOLD
    floor: float = 0.0
    state: bool = False
    shown_only: bool = False


def _table(*signals: Signal) -> Mapping[str, Signal]:
    return MappingProxyType({signal.name: signal for signal in signals})


SIGNALS: Mapping[str, Signal] = _table(
    Signal(name="member-lag", title="replication lag", unit="s", slow=2.0, stop=5.0),
    Signal(name="majority-lag", title="lag of the majority", unit="s", slow=1.0, stop=4.0, needs=Reads.NOTHING),
    Signal(
        name="majority-write", title="a majority write to the ledger", unit="ms", slow=250.0, stop=1000.0, needs=Reads.NOTHING
    ),
    Signal(name="member-silence", title="silence of a member", unit="s", slow=6.0, stop=None),
    Signal(name="members-down", title="members do not answer", unit="", slow=0.5, stop=1.5, floor=0.5, state=True),
    Signal(name="flow-control", title="flow control holds writes back", unit="ms/s", slow=50.0, stop=None),
    Signal(name="flow-control-lagged", title="flow control sees lag", unit="", slow=None, stop=0.5, stop_after=1, state=True),
    Signal(name="cache-dirty", title="dirty cache", unit="%", slow=7.0, stop=15.0),
    Signal(name="cache-updates", title="updates in the cache", unit="%", slow=5.0, stop=8.0),
    Signal(name="cache-used", title="cache in use", unit="%", slow=90.0, stop=95.0),
    Signal(
        name="application-evictions", title="pages evicted by application threads", unit="/s", slow=10.0, stop=500.0, slow_after=10, stop_after=3
    ),
    Signal(name="ticket-queue", title="operations that wait for a ticket", unit="", slow=0.5, stop=10.0, stop_after=3),
    Signal(name="read-canary", title="a read by _id", unit="ms", slow=10.0, stop=50.0, needs=Reads.NOTHING),
    Signal(name="write-canary", title="a small majority write", unit="ms", slow=12.0, stop=150.0, needs=Reads.NOTHING),
    Signal(name="other-operations", title="operations of others under way", unit="", slow=None, stop=None, shown_only=True),
    Signal(name="operation-latency", title="reads and writes take", unit="ms", slow=None, stop=None, shown_only=True),
    Signal(name="write-conflicts", title="write conflicts", unit="/s", slow=100.0, stop=None),
    Signal(name="oplog-window", title="the oplog reaches back", unit="h", slow=6.0, stop=2.0, low=True, floor=0.5),
    Signal(name="disk-used", title="disk in use", unit="%", slow=90.0, stop=95.0, needs=Reads.NOTHING, floor=0.5),
    Signal(name="connections-free", title="free connections", unit="%", slow=20.0, stop=5.0, low=True, floor=0.5),
    Signal(
        name="new-primary", title="a new primary was elected", unit="", slow=None, stop=0.5, needs=Reads.NOTHING, stop_after=1, hold=30.0, state=True
    ),
    Signal(name="index-build", title="an index is built on the collection", unit="", slow=0.5, stop=None, floor=0.25, state=True),
    Signal(
        name="broker-alarm", title="RabbitMQ has stopped all publishers, as it runs out of memory or disk", unit="", slow=None, stop=0.5, needs=Reads.NOTHING, stop_after=1, state=True
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The thresholds of a signal as a person has set them; None where they are those of the table."""

    slow: float | None = None
    stop: float | None = None

    def of(self, signal: Signal) -> tuple[float | None, float | None]:
        """Returns the thresholds that hold."""
        return (
            signal.slow if self.slow is None else self.slow,
            signal.stop if self.stop is None else self.stop,
        )


def find_signal(name: str, signals: Mapping[str, Signal] = SIGNALS) -> Signal:
    """Returns the signal of a name. Raises SignalUnknown, with all names."""
    signal = signals.get(name)
    if signal is None:
        raise SignalUnknown(f"There is no signal {name!r}. These are: {', '.join(signals)}.")
    return signal


def check_thresholds(signal: Signal, thresholds: Thresholds) -> None:
    """Raises ThresholdsRefused where a signal cannot have these thresholds."""
    slow, stop = thresholds.of(signal)
    for level, asked, own in (("slow", thresholds.slow, signal.slow), ("stop", thresholds.stop, signal.stop)):
        if asked is None:
            continue
        if own is None and not signal.shown_only:
            raise ThresholdsRefused(f"The signal {signal.name} has no threshold {level!r}.")
        if not 0 <= asked < 1e12:  # noqa: PLR2004  larger than anything that is measured
            raise ThresholdsRefused(
                f"{level}={asked:g} cannot be a threshold of {signal.name}: take a number from 0 up."
            )
        if signal.unit == "%" and asked > WHOLE:
            raise ThresholdsRefused(
                f"{level}={asked:g} cannot be a threshold of {signal.name}, which is never above 100 %: take a number from 0 to 100."
            )
    if slow is not None and stop is not None and (slow < stop if signal.low else slow > stop):
        order = "below" if signal.low else "above"
        raise ThresholdsRefused(
            f"The thresholds of {signal.name} do not fit: slow={slow:g} is {order} stop={stop:g}, so that runs would stop before they go slower."
        )
