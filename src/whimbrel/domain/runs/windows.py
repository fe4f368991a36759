"""The windows of a run: the hours in which it may go at its full speed. Pure: the time is always passed in.

Whether a moment is inside is decided by what a clock on the wall of the window's zone shows, weekday and time, and by no arithmetic with durations:
so a window is shorter where a spring leaves an hour out, and longer where an autumn has it twice.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from whimbrel.domain.runs.time_zones import time_zone
from whimbrel.errors import SettingsInvalid

MOST = 20  # windows of a run
LONGEST = 200  # characters of a window
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FULL_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EVERY_DAY = frozenset(range(7))
MIDNIGHT_AFTER = 24 * 60  # minutes: the end of a day
# Windows of one weekday open once a week; where the clock leaves that hour out, a week later.
AHEAD = timedelta(days=16)
SECOND = timedelta(seconds=1)
SUCH_AS = "Write it such as '22:00-06:00 Europe/Berlin' or 'Mon-Fri 22:00-06:00 UTC share=0.2'."

_TIMES = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*[-\u2013]\s*([0-9]{1,2}):([0-9]{2})")


@dataclass(frozen=True, slots=True)
class Window:
    """From `start` to before `end`, in minutes of the day; over midnight where `end` is not after `start`. `days`: on which it begins, Monday is 0.

    `outside`: the share of its speed that the run has outside; 0: it waits.
    """

    start: int
    end: int
    zone: str = "UTC"
    days: frozenset[int] = EVERY_DAY
    outside: float = 0.0

    def __str__(self) -> str:
        days = "" if self.days == EVERY_DAY else f"{_days_text(self.days)} "
        share = f" share={self.outside:g}" if self.outside else ""
        return f"{days}{_clock(self.start)}-{_clock(self.end)} {self.zone}{share}"

    def is_inside(self, moment: datetime) -> bool:
        local = moment.astimezone(time_zone(self.zone))
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return self.start <= minute < self.end and day in self.days
        # Over midnight it belongs to the day on which it begins.
        return (minute >= self.start and day in self.days) or (
            minute < self.end and (day - 1) % 7 in self.days
        )

    def openings(self, moment: datetime) -> Iterator[datetime]:
        """Yields the moments after this one at which it may begin: by its clock, or because the clock is put forward or back. In no order."""
        zone = time_zone(self.zone)
        day, last = moment.astimezone(zone).date(), (moment + AHEAD).astimezone(zone).date()
        begins = time(self.start // 60, self.start % 60)
        while day <= last:
            for fold in (0, 1):  # where the hour comes twice, both
                yield datetime.combine(day, begins.replace(fold=fold), zone).astimezone(UTC)
            yield from clock_changes(self.zone, day)
            day += timedelta(days=1)


def read_window(text: str) -> Window:
    """Reads a window: `[DAYS] HH:MM-HH:MM [ZONE] [share=0.2]`. Raises SettingsInvalid that names the place."""
    if len(text) > LONGEST:
        raise SettingsInvalid(f"window {text[:60]!r}... has more than {LONGEST} characters. {SUCH_AS}")
    found = _TIMES.search(text)
    if found is None:
        raise _refused(text, "it has no times", SUCH_AS)
    start, end = (
        _minutes(text, found[1], found[2], last=False),
        _minutes(text, found[3], found[4], last=True),
    )
    if start == end:
        raise _refused(
            text,
            "it never opens, as it ends when it begins",
            "All day is 00:00-24:00.",
        )
    zone, outside = _rest(text, text[found.end() :].split())
    return Window(start, end, zone, _days(text, text[: found.start()]), outside)


def check_windows(texts: Sequence[str]) -> tuple[str, ...]:
    """Returns windows as they are stored. Raises SettingsInvalid that names the place."""
    if len(texts) > MOST:
        raise SettingsInvalid(f"A run has up to {MOST} windows, not {len(texts)}.")
    return tuple(dict.fromkeys(str(read_window(text)) for text in texts))


@lru_cache(maxsize=256)
def windows_of(texts: tuple[str, ...]) -> tuple[Window, ...]:
    """Returns the windows of a run as they are stored in it."""
    return tuple(map(read_window, texts))


def share_at(windows: Sequence[Window], moment: datetime) -> float:
    """Returns the share of its speed that a run has by its windows: all of it in any of them; outside the largest that one of them names."""
    if not windows or any(window.is_inside(moment) for window in windows):
        return 1.0
    return max(window.outside for window in windows)


def windows_sentence(texts: tuple[str, ...]) -> str:
    """Returns what windows mean, in a few words."""
    windows = windows_of(texts)
    times = "; ".join(str(replace(window, outside=0.0)) for window in windows)
    share = max(window.outside for window in windows)
    return f"{times}; outside {f'it has {share:.0%} of its speed' if share else 'it waits'}"


@lru_cache(maxsize=256)
def _next_opening(windows: tuple[Window, ...], moment: datetime) -> tuple[datetime, Window] | None:
    openings = sorted(
        (opening, str(window), window)
        for window in windows
        for opening in window.openings(moment)
        if opening > moment
    )
    return next(((opening, window) for opening, _, window in openings if window.is_inside(opening)), None)


def opens_at(windows: Sequence[Window], moment: datetime) -> tuple[datetime, Window] | None:
    """Returns when the first of the windows opens after a moment that is outside all of them, and which. None: not in two weeks."""
    return _next_opening(tuple(windows), moment.replace(second=0, microsecond=0))


@lru_cache(maxsize=1024)
def clock_changes(zone_name: str, day: date) -> tuple[datetime, ...]:
    """Returns when, on this day of the zone, the clock is put forward or back."""
    zone = time_zone(zone_name)
    before = datetime.combine(day, time(), zone).astimezone(UTC)
    after = datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)
    if before.astimezone(zone).utcoffset() == after.astimezone(zone).utcoffset():
        return ()
    offset = before.astimezone(zone).utcoffset()
    while after - before > SECOND:
        middle = before + (after - before) // 2
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return (after.replace(microsecond=0),)


def _minutes(text: str, hour: str, minute: str, *, last: bool) -> int:
    minutes = int(hour) * 60 + int(minute)
    if int(minute) > 59 or minutes > (MIDNIGHT_AFTER if last else MIDNIGHT_AFTER - 1):  # noqa: PLR2004
        raise _refused(
            text, f"{hour}:{minute} is no time of the day", "Hours are 00 to 23, and 24:00 at the end."
        )
    return minutes


def _days(text: str, part: str) -> frozenset[int]:
    """Reads weekdays, such as `Mon-Fri`, `Sat,Sun` or `Fri-Mon`; nothing: every day."""
    days: set[int] = set()
    for name in filter(None, re.split(r"[,\s]+", re.sub(r"\s*[-\u2013]\s*", "-", part.strip()))):
        first, to, last = name.partition("-")
        begin, end = _day(text, first), _day(text, last if to else first)
        days |= {(begin + step) % 7 for step in range((end - begin) % 7 + 1)}
    return frozenset(days) or EVERY_DAY


def _day(text: str, name: str) -> int:
    lowered = name.lower()
    for number, full in enumerate(FULL_NAMES):
        if len(lowered) >= len(DAYS[0]) and full.startswith(lowered):
            return number
    raise _refused(text, f"{name!r} is no weekday", f"They are {', '.join(DAYS)}.")


def _rest(text: str, words: list[str]) -> tuple[str, float]:
    """Reads what follows the times: a zone, and the share outside."""
    zone, outside = "", None
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name.lower() == "share" and outside is None:
            outside = _share(text, value)
        elif not zone and not equals:
            zone = word
        else:
            raise _refused(text, f"{word!r} cannot be read", SUCH_AS)
    try:
        time_zone(zone or "UTC")
    except SettingsInvalid as error:
        raise SettingsInvalid(f"window {text!r}: {error}") from error
    return zone or "UTC", outside or 0.0


def _share(text: str, value: str) -> float:
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise _refused(
            text,
            f"share={value} is none",
            "The share outside the window is a number from 0, which is to wait, to 1.",
        )
    return share


def _refused(text: str, what: str, hint: str) -> SettingsInvalid:
    return SettingsInvalid(f"window {text!r}: {what}. {hint}")


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _days_text(days: frozenset[int]) -> str:
    """Returns weekdays as they are read, with ranges where three or more follow one another."""
    parts: list[list[int]] = []
    for day in sorted(days):
        if parts and day == parts[-1][-1] + 1:
            parts[-1].append(day)
        else:
            parts.append([day])
    texts = [
        f"{DAYS[part[0]]}-{DAYS[part[-1]]}" if len(part) > 2 else ",".join(DAYS[day] for day in part)  # noqa: PLR2004
        for part in parts
    ]
    return ",".join(texts)
