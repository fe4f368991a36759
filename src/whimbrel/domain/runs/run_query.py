"""Which runs a list shows, and in which order. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from whimbrel.domain.runs.run import RunKind
from whimbrel.domain.runs.run_cursor import WRONG, RunPlace
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.errors import CursorInvalid

RunOrder = Literal["newest", "active"]

AT_WORK = (RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.CANCELLING)
WAITING = (RunStatus.PAUSED, RunStatus.QUEUED)
ACTIVE = (*AT_WORK, *WAITING)
# Of the order `active`: what is at work, what waits, and what is over, each newest first.
GROUPS = (AT_WORK, WAITING, tuple(status for status in RunStatus if status in ENDED))


@dataclass(frozen=True, kw_only=True, slots=True)
class RunQuery:
    """All conditions hold together; those that are None do not restrict.

    `collections`: any of these, as database and collection. `since`, `until`: added then or later, and before that.
    """

    statuses: Sequence[RunStatus] | None = None
    kinds: Sequence[RunKind] | None = None
    migration: str | None = None
    collections: Sequence[str] | None = None
    since: datetime | None = None
    until: datetime | None = None

    def only(self, group: Sequence[RunStatus]) -> "RunQuery":
        """Returns the query for the runs of a group of states."""
        statuses = group if self.statuses is None else [each for each in self.statuses if each in group]
        return replace(self, statuses=statuses)


@dataclass(frozen=True, slots=True)
class ListPlace:
    """A place in a list of runs: in the order `active` also its group."""

    place: RunPlace
    group: int | None = None

    @property
    def cursor(self) -> str:
        """The place as text that means nothing to people."""
        return self.place.cursor if self.group is None else f"{self.group}.{self.place.cursor}"

    @classmethod
    def of(cls, cursor: str, order: RunOrder) -> "ListPlace":
        """Reads a cursor of a list in this order. Raises CursorInvalid."""
        group, dot, rest = cursor.rpartition(".")
        if (order == "active") != bool(dot) or (dot and group not in map(str, range(len(GROUPS)))):
            raise CursorInvalid(WRONG)
        return cls(RunPlace.of(rest), int(group) if dot else None)
