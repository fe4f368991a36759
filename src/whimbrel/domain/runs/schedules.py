"""Schedules: when they are due, by cron and a time zone, and what became of each tick. Pure: `now` is always passed in."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal

from cronsim import CronSim, CronSimError

from whimbrel.domain.runs.time_zones import time_zone
from whimbrel.errors import SettingsInvalid, WhimbrelError

GRACE = timedelta(hours=1)  # a tick that is older than this when a scheduler is back is missed
LONGEST = 200  # characters of a cron expression
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"

Outcome = Literal["started", "skipped", "missed", "failed"]


class ScheduleUnknown(WhimbrelError):
    """There is no schedule of that name."""

    code: ClassVar[str] = "schedule_unknown"
    exit_code: ClassVar[int] = 66


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a person specifies of a schedule."""

    migration: str
    cron: str
    zone: str = "UTC"
    enabled: bool = True
    batch_size: int | None = None
    filters: bytes | None = None  # BSON
    priority: int = 0
    windows: tuple[str, ...] = ()
    nice: int = 0
    follow: bool = False
    stages: tuple[str, ...] = ()  # as a person writes them; none: all at once
    hold: float | None = None  # seconds at each gate
    approve: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """What became of one tick. `first`: the oldest of the ticks that it stands for, usually itself."""

    due_at: datetime
    first: datetime
    outcome: Outcome
    run: str | None = None
    reason: str = ""
    decided_at: datetime | None = None  # by the server's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A row of the ledger. Times are the server's."""

    name: str
    plan: Plan
    revision: int  # increased by each change by a person
    next_at: datetime | None
    last_at: datetime | None = None
    last_run: str | None = None
    pending: str | None = None  # the run of a tick that is decided and not closed yet
    trouble: str = ""  # why its ticks cannot be decided
    made_by: str = ""
    made_at: datetime | None = None
    changed_by: str = ""
    changed_at: datetime | None = None
    history: tuple[Tick, ...] = ()  # oldest first


@dataclass(frozen=True, slots=True)
class DueTick:
    """Due ticks, as one. `tick` is the latest of them, or the first where all are `missed`."""

    first: datetime
    tick: datetime
    following: datetime | None
    missed: bool


def check_name(name: str) -> str:
    """Checks the name of a schedule. Raises SettingsInvalid."""
    if not re.fullmatch(NAME, name, re.ASCII) or name.endswith("\n"):
        raise SettingsInvalid(
            f"name {name[:80]!r}: begin with a letter or digit, then up to 62 of a to z, 0 to 9, dot, hyphen and underscore."
        )
    return name


def check_cron(text: str) -> str:
    """Returns the expression with its fields one blank apart. Raises SettingsInvalid."""
    expression = " ".join(text.split())
    try:
        if len(expression) > LONGEST or not expression.isascii():
            raise CronSimError("Too long, or not ASCII")  # noqa: TRY301
        next(CronSim(expression, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise SettingsInvalid(
            f"cron {text[:80]!r}: {error}. Write minute, hour, day, month and weekday, with the second before them if wanted, such as '*/5 * * * *'."
        ) from error
    except StopIteration as error:
        raise SettingsInvalid(
            f"cron {text[:80]!r}: no such time comes within 50 years. Choose a day that its months have."
        ) from error
    return expression


def next_after(cron: str, zone: str, moment: datetime) -> datetime | None:
    """Returns the first tick after a moment, in UTC; None where there is none within 50 years. Raises SettingsInvalid."""
    place = time_zone(zone)
    try:
        for candidate in CronSim(cron, moment.astimezone(place)):
            tick = candidate.replace(tzinfo=candidate.tzinfo or place).astimezone(UTC)
            # In the hour that an autumn has twice, cronsim names the earlier one, which may be over.
            if tick > moment:
                return tick
    except CronSimError as error:
        raise SettingsInvalid(f"cron {cron[:80]!r}: {error}.") from error
    return None


def due(plan: Plan, next_at: datetime, now: datetime) -> DueTick:
    """Returns what is due at `now`, from the tick `next_at` on: the latest stands for all, unless it is older than the grace.

    Raises SettingsInvalid.
    """
    start = now - GRACE
    tick = next_at if next_at >= start else next_after(plan.cron, plan.zone, start - timedelta.resolution)
    if tick is None or tick > now:
        return DueTick(next_at, next_at, tick, missed=True)
    while (following := next_after(plan.cron, plan.zone, tick)) is not None and following <= now:
        tick = following
    return DueTick(next_at, tick, following, missed=False)
