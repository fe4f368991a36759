"""The schedules of the ledger, and the one switch for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.schedules import Plan, Schedule, Tick


@dataclass(frozen=True, slots=True)
class ScheduleLook:
    """What a scheduler reads at once: the server's time, the switch, and the schedules that need it."""

    now: datetime
    on: bool
    schedules: Sequence[Schedule]  # with a tick that is due or pending; without their history


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What is decided about a due tick. `run`: the run that it starts."""

    tick: Tick
    following: datetime | None
    run: Run | None = None


class Schedules(Protocol):
    """The schedules. A tick is decided by one conditional update of its schedule's row, so it is decided once."""

    def now(self) -> datetime:
        """Returns the server's time."""
        ...

    def is_prepared(self) -> bool:
        """Whether the first schedule was ever created."""
        ...

    def prepare(self, name: str, plan: Plan, next_at: datetime | None) -> None:
        """Creates the switch, on, and the first schedule, where they do not exist."""
        ...

    def snapshot(self) -> ScheduleLook:
        """Reads it in one call."""
        ...

    def get(self, name: str) -> Schedule | None: ...

    def list(self) -> list[Schedule]:
        """Returns the schedules by name."""
        ...

    def put(self, name: str, plan: Plan, next_at: datetime | None, *, who: str) -> Schedule:
        """Creates or changes a schedule. Its next tick stays as it is where neither cron, zone nor `enabled` changes. Audited."""
        ...

    def replace_untouched(self, name: str, plan: Plan, next_at: datetime | None, *, who: str) -> bool:
        """Changes a disabled schedule that nobody but `who` has created or changed. Audited. Returns False where it is not such."""
        ...

    def remove(self, name: str, *, who: str) -> bool:
        """Removes a schedule. Audited. Returns False where there is none. A tick that is claimed and has no run yet is lost with it."""
        ...

    def is_on(self) -> bool:
        """Whether the switch is on; it is where nobody has touched it."""
        ...

    def stopped(self) -> tuple[str, datetime | None] | None:
        """Returns who turned the switch off, and when; None where it is on."""
        ...

    def switch(
        self, *, on: bool, who: str, next_ticks: Sequence[tuple[Schedule, datetime | None]] = ()
    ) -> bool:
        """Turns the switch. Returns False where it was so already. `next_ticks`: set before that, for these enabled schedules. Audited."""
        ...

    def leader(self) -> str | None:
        """Returns the process that holds the role `scheduler` now."""
        ...

    def decide(self, schedule: Schedule, decision: Decision) -> bool:
        """Decides the tick `schedule.next_at`, if the schedule is unchanged and no tick is pending. Returns False where it is not so.

        With a run, the run is stored in the row, and the tick is pending until `close`. Without one, it is history.
        """
        ...

    def begin_now(self, schedule: Schedule, tick: Tick, run: Run, *, who: str) -> bool:
        """Stores a run that a person starts by a schedule in its row, pending until `close`; the ticks stay as they are. Audited.

        Returns False where the schedule is not as it was read any more, or a tick is pending.
        """
        ...

    def add_run(self, schedule: Schedule) -> bool:
        """Adds the pending run to the runs, if it is not there. Doing it twice changes nothing. Returns False where nothing is pending."""
        ...

    def close(self, schedule: Schedule) -> None:
        """Makes the tick history, because the pending run exists. Does nothing if it was closed."""
        ...

    def record_trouble(self, name: str, trouble: str) -> None:
        """Records why ticks cannot be decided. The next decision clears it."""
        ...
