"""The database's health: reading its signals, and the verdict that the ledger keeps."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.signals import Thresholds
from whimbrel.domain.health.verdict import Verdict


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What people have set: thresholds by signal, and until when they ignore a signal."""

    thresholds: Mapping[str, Thresholds] = field(default_factory=dict)
    ignored: Mapping[str, datetime] = field(default_factory=dict)


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


class HealthRecords(Protocol):
    """The verdict, its history, and what people have set."""

    def verdict(self) -> Verdict:
        """Returns the latest verdict with its age by the server's clock; one without an age where there never was one."""
        ...

    def settings(self) -> HealthSettings: ...

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
