"""The database's health: reading its signals, and the verdict that the ledger keeps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.signals import SIGNALS, Signal, Thresholds
from whimbrel.domain.health.verdict import Verdict


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What people have set: thresholds by signal, and until when they ignore a signal."""

    thresholds: Mapping[str, Thresholds] = field(default_factory=dict)
    ignored: Mapping[str, datetime] = field(default_factory=dict)

    def of(self, name: str) -> Thresholds:
        """Returns what a person has set for a signal."""
        return self.thresholds.get(name, Thresholds())


class HealthCheck(Protocol):
    """Reads one signal elsewhere than in MongoDB."""

    @property
    def signal(self) -> Signal: ...

    def read(self) -> Reading:
        """Asks once, and returns what came, or why nothing did. Raises nothing. May hang: callers do not wait for it."""
        ...

    def abandon(self) -> None:
        """Ends a `read` of another thread that takes too long, if it can be ended."""
        ...


@dataclass(frozen=True, slots=True)
class Watching:
    """How a process watches the database's health: by which checks of the user, and without which members. `brokered`: RabbitMQ is used."""

    checks: tuple[HealthCheck, ...] = ()
    ignored_members: frozenset[str] = frozenset()
    brokered: bool = False

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The user's own signals, as this process is configured."""
        return tuple(check.signal for check in self.checks)


def all_signals(*own: Sequence[Signal]) -> Mapping[str, Signal]:
    """Returns the signals of the table and the user's own, by name."""
    return {**SIGNALS, **{signal.name: signal for signals in own for signal in signals}}


@dataclass(frozen=True, slots=True)
class HealthSample:
    """A row of the history: of a second, or of a minute, with its worst values."""

    at: datetime
    share: float
    level: str
    values: Mapping[str, float]


class HealthReader(Protocol):
    """Reads the signals of the deployment."""

    def read(self, *, own_slots: int, namespaces: Collection[str]) -> Sequence[Reading]:
        """Returns what can be read within a second or two, and of the rest why it cannot. Raises nothing.

        `own_slots`: batches that Whimbrel works on. `namespaces`: collections that runs are at work on.
        """
        ...

    def close(self) -> None:
        """Ends the connections that reading has opened."""
        ...


class HealthRecords(Protocol):
    """The verdict, its history, and what people have set."""

    def verdict(self) -> Verdict:
        """Returns the latest verdict with its age by the server's clock; one without an age where there never was one."""
        ...

    def settings(self) -> HealthSettings: ...

    def read_canary(self) -> None:
        """Reads one row by its `_id`, on the primary."""
        ...

    def write_canary(self, within: float) -> None:
        """Writes one small row, acknowledged by the majority. Raises Transient where that takes more than so many seconds."""
        ...

    def keep(
        self, verdict: Verdict, minute: Mapping[str, Any] | None, throttled: Mapping[str, float] | None = None
    ) -> None:
        """Stores a verdict and the second's history, acknowledged by the majority. `minute`: also the worst of a minute that is over.

        `throttled`: seconds for which runs at work were held back since the verdict before, by what held them back.
        """
        ...

    def throttled(self) -> Mapping[str, float]:
        """Returns the seconds for which runs at work were held back since the first verdict, by what held them back."""
        ...

    def history(self, *, minutes: bool) -> Sequence[HealthSample]:
        """Returns the history, oldest first: of 15 minutes by seconds, or of a day by minutes."""
        ...

    def set_thresholds(self, signal: str, thresholds: Thresholds, *, who: str) -> None:
        """Stores the thresholds of a signal; those that are None become the table's again. Audited."""
        ...

    def ignore(self, signal: str, until: datetime | None, *, who: str, why: str) -> None:
        """Ignores a signal until then; None: no longer. Audited."""
        ...
