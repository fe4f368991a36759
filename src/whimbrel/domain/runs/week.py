"""What the next days hold: when windows are open, freezes in force and schedules due, as stretches of time for a bar. Pure: the time is passed in."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta

from whimbrel.domain.runs.freezes import Freeze
from whimbrel.domain.runs.schedules import Plan, next_after
from whimbrel.domain.runs.time_zones import time_zone
from whimbrel.domain.runs.windows import MIDNIGHT_AFTER, Window, clock_changes, share_at

SPAN = timedelta(days=7)
TICKS = 200  # of a schedule that are shown one by one; more are a stripe


@dataclass(frozen=True, slots=True)
class Stretch:
    """From `begins` to before `ends`: the share of its speed that a run has by then."""

    begins: datetime
    ends: datetime
    share: float


def window_stretches(windows: Sequence[Window], begins: datetime, ends: datetime) -> list[Stretch]:
    """Returns the stretches of equal share from one moment to another, by what the clocks of the windows show."""
    turns = {
        moment for window in windows for moment in _turns(window, begins, ends) if begins < moment < ends
    }
    found: list[Stretch] = []
    for start, end in _between(begins, sorted(turns), ends):
        share = share_at(windows, start)
        if found and found[-1].share == share:
            found[-1] = Stretch(found[-1].begins, end, share)
        else:
            found.append(Stretch(start, end, share))
    return found


def freeze_stretches(
    freezes: Iterable[Freeze], begins: datetime, ends: datetime
) -> list[tuple[Freeze, Stretch]]:
    """Returns when freezes are in force within this time, each with its stretch. Lifted ones are not."""
    found = []
    for freeze in freezes:
        start, end = max(freeze.begins, begins), min(freeze.ends or ends, ends)
        if not freeze.lifted_by and start < end:
            found.append((freeze, Stretch(start, end, 0.0)))
    return found


def ticks_until(plan: Plan, begins: datetime, ends: datetime, *, most: int = TICKS) -> list[datetime] | None:
    """Returns the ticks of a plan within this time; None where there are more than `most`. Raises SettingsInvalid."""
    found: list[datetime] = []
    moment = next_after(plan.cron, plan.zone, begins)
    while moment is not None and moment < ends:
        if len(found) == most:
            return None
        found.append(moment)
        moment = next_after(plan.cron, plan.zone, moment)
    return found


def _between(
    begins: datetime, turns: Sequence[datetime], ends: datetime
) -> Iterator[tuple[datetime, datetime]]:
    start = begins
    for turn in (*turns, ends):
        yield start, turn
        start = turn


def _turns(window: Window, begins: datetime, ends: datetime) -> Iterator[datetime]:
    """Yields the moments at which a window may open or close."""
    zone = time_zone(window.zone)
    day = begins.astimezone(zone).date() - timedelta(days=1)
    last = ends.astimezone(zone).date() + timedelta(days=1)
    while day <= last:
        for minute in (window.start, window.end % MIDNIGHT_AFTER):
            at = time(minute // 60, minute % 60)
            for fold in (0, 1):  # where the hour comes twice, both
                yield datetime.combine(day, at.replace(fold=fold), zone).astimezone(begins.tzinfo)
        yield from clock_changes(window.zone, day)
        day += timedelta(days=1)
