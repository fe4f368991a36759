"""Schedules: when they are due, by cron and a time zone, and what became of each tick. Pure: `now` is always given."""

import difflib
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import ClassVar, Literal
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from whimbrel.errors import SettingsInvalid, WhimbrelError

GRACE = timedelta(hours=1)  # a tick that is older than this when somebody is there again is missed
LONGEST = 200  # characters of a cron expression
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"
OWN_ZONES = {"localtime", "posixrules", "Factory"}  # what they mean differs from host to host

Outcome = Literal["started", "skipped", "missed", "failed"]


class ScheduleUnknown(WhimbrelError):
    """There is no schedule of that name."""

    code: ClassVar[str] = "schedule_unknown"
    exit_code: ClassVar[int] = 66


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a person says of a schedule."""

    migration: str
    cron: str
    zone: str = "UTC"
    enabled: bool = True
    batch_size: int | None = None
    filters: bytes | None = None  # BSON
    priority: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """What became of one tick. `first`: the oldest of the ticks that it stands for, mostly itself."""

    at: datetime
    first: datetime
    outcome: Outcome
    run: str | None = None
    reason: str = ""
    decided_at: datetime | None = None  # the server's


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A row of the ledger. Times are the server's."""

    name: str
    plan: Plan
    revision: int  # one more with each change by a person
    next_at: datetime | None
    last_at: datetime | None = None
    last_run: str | None = None
    pending: str | None = None  # the run of a tick that is claimed and not closed yet
    trouble: str = ""  # why its ticks cannot even be decided
    made_by: str = ""
    made_at: datetime | None = None
    changed_by: str = ""
    changed_at: datetime | None = None
    history: tuple[Tick, ...] = ()  # oldest first


@dataclass(frozen=True, slots=True)
class DueTick:
    """Ticks that are due, as one. `tick` is the latest of them, or the first where all are `missed`."""

    first: datetime
    tick: datetime
    following: datetime | None
    missed: bool


def check_name(name: str) -> str:
    """Raises SettingsInvalid."""
    if not re.fullmatch(NAME, name, re.ASCII) or name.endswith("\n"):
        raise SettingsInvalid(
            f"name {name[:80]!r}: begin with a letter or digit, then up to 62 of a to z, 0 to 9, dot, hyphen and underscore."
        )
    return name


def check_cron(text: str) -> str:
    """The expression, its fields one blank apart. Raises SettingsInvalid."""
    found = " ".join(text.split())
    try:
        if len(found) > LONGEST or not found.isascii():
            raise CronSimError("Too long, or not ASCII")  # noqa: TRY301
        next(CronSim(found, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise SettingsInvalid(
            f"cron {text[:80]!r}: {error}. Write minute, hour, day, month and weekday, with the second before them if wanted, such as '*/5 * * * *'."
        ) from error
    except StopIteration as error:
        raise SettingsInvalid(
            f"cron {text[:80]!r}: no such time comes within 50 years. Choose a day that its months have."
        ) from error
    return found


def check_zone(name: str) -> str:
    """Raises SettingsInvalid."""
    _zone(name)
    return name


def _zone(name: str) -> tzinfo:
    """UTC is the one that cronsim knows as such, and is quick with."""
    if name == "UTC":
        return UTC
    try:
        if name in OWN_ZONES:
            raise ValueError(name)  # noqa: TRY301
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # KeyError: there is none; OSError: a folder of zones
        near = difflib.get_close_matches(name[:80], available_timezones() - OWN_ZONES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Write it such as 'Europe/Berlin', or UTC."
        raise SettingsInvalid(f"zone {name[:80]!r} is no time zone that this host knows. {hint}") from error


def next_after(cron: str, zone: str, moment: datetime) -> datetime | None:
    """The first tick after a moment, in UTC; None where there is none within 50 years. Raises SettingsInvalid."""
    there = _zone(zone)
    try:
        for found in CronSim(cron, moment.astimezone(there)):
            tick = found.replace(tzinfo=found.tzinfo or there).astimezone(UTC)
            # In the hour that an autumn has twice, cronsim names the earlier one, which may be over.
            if tick > moment:
                return tick
    except CronSimError as error:
        raise SettingsInvalid(f"cron {cron[:80]!r}: {error}.") from error
    return None


def due(plan: Plan, next_at: datetime, now: datetime) -> DueTick:
    """What is due at `now`, from the tick `next_at` on: the latest stands for all, unless it is older than the grace.

    Raises SettingsInvalid.
    """
    start = now - GRACE
    tick = next_at if next_at >= start else next_after(plan.cron, plan.zone, start - timedelta.resolution)
    if tick is None or tick > now:
        return DueTick(next_at, next_at, tick, missed=True)
    while (following := next_after(plan.cron, plan.zone, tick)) is not None and following <= now:
        tick = following
    return DueTick(next_at, tick, following, missed=False)
