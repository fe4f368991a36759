"""The schedules of the ledger, and the one switch over all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.schedules import Plan, Schedule, Tick


@dataclass(frozen=True, slots=True)
class ScheduleLook:
    """What a scheduler sees at once: the server's time, the switch, and the schedules that need it."""

    now: datetime
    on: bool
    schedules: Sequence[Schedule]  # with a tick that is due or pending; without their history


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What shall become of a due tick. `run`: the one that it starts."""

    tick: Tick
    following: datetime | None
    run: Run | None = None


class Schedules(Protocol):
    """A tick is decided by one conditional update of its schedule's row, so it is decided once."""

    def now(self) -> datetime:
        """The server's time."""
        ...

    def is_prepared(self) -> bool:
        """Whether the first schedule was ever made."""
        ...

    def prepare(self, name: str, plan: Plan, next_at: datetime | None) -> None:
        """Make the switch, on, and the first schedule, where they are not there."""
        ...

    def look(self) -> ScheduleLook:
        """In one call."""
        ...

    def get(self, name: str) -> Schedule | None: ...

    def list(self) -> list[Schedule]:
        """By name."""
        ...

    def put(self, name: str, plan: Plan, next_at: datetime | None, *, who: str) -> Schedule:
        """Make or change a schedule. Its next tick stays as it is where neither cron, zone nor `enabled` changes. Audited."""
        ...

    def take_up(self, name: str, plan: Plan, next_at: datetime | None, *, who: str) -> bool:
        """Change a schedule that is disabled, and that nobody but `who` has made or changed. Audited. False where it is not so."""
        ...

    def remove(self, name: str, *, who: str) -> bool:
        """Audited. False where there is none. A tick that is claimed and has no run yet is lost with it."""
        ...

    def is_on(self) -> bool:
        """The switch; on where nobody has touched it."""
        ...

    def stopped(self) -> tuple[str, datetime | None] | None:
        """Who turned the switch off, and when; None where it is on."""
        ...

    def switch(self, *, on: bool, who: str, anew: Sequence[tuple[Schedule, datetime | None]] = ()) -> bool:
        """Turn it: False where it was so already. `anew`: before that, set the next ticks of these enabled schedules. Audited."""
        ...

    def leader(self) -> str | None:
        """The process that holds the role `scheduler` now."""
        ...

    def decide(self, schedule: Schedule, decision: Decision) -> bool:
        """Decide the tick `schedule.next_at`, if the schedule is as it was and no tick is pending. False where it is not so.

        With a run, the run is kept in the row, and the tick is pending until `close`. Without, it is history.
        """
        ...

    def add_run(self, schedule: Schedule) -> bool:
        """Add the pending run to the runs, if it is not there. Done twice it is the same. False where nothing is pending."""
        ...

    def close(self, schedule: Schedule) -> None:
        """The pending run is there: the tick is history. Nothing happens if it was closed."""
        ...

    def record_trouble(self, name: str, trouble: str) -> None:
        """Say why ticks cannot be decided. The next decision takes it back."""
        ...
