"""Parses times as people give them: how long ago, a day, or a day and a time."""

import re
from datetime import UTC, datetime, timedelta

from whimbrel.errors import SettingsInvalid

_AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _length(parts: re.Match[str]) -> timedelta:
    return timedelta(**{_UNITS[parts[2]]: int(parts[1])})


def is_duration(text: str) -> bool:
    """Whether a text says how long something lasts."""
    return _AGO.fullmatch(text.strip().lower()) is not None


def duration(option: str, text: str) -> float:
    """Parses how long something lasts. Returns seconds. Raises SettingsInvalid."""
    length = _AGO.fullmatch(text.strip().lower())
    if length is None:
        raise SettingsInvalid(f"{option} {text}: give how long, such as 90s, 30m, 2h or 1d.")
    return _length(length).total_seconds()


def by_this_clock(text: str) -> datetime:
    """Parses a day and time; without an offset by this machine's clock. Raises ValueError; SettingsInvalid where the clock has it twice, or not at all."""
    given = datetime.fromisoformat(text.strip())
    if given.tzinfo is None:
        first, second = (given.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
        if first != second:
            shown = first.astimezone().replace(tzinfo=None)
            how = "twice" if shown == given else "not at all"
            raise SettingsInvalid(
                f"The clock of this machine has {text.strip()} {how}, as it is changed then: give the time with its offset, such as {given.isoformat()}+01:00."
            )
    return given.astimezone(UTC)


def point_in_time(text: str, now: datetime | None = None) -> datetime:
    """Parses a time; without a zone it is in this machine's. Raises SettingsInvalid."""
    try:
        if ago := _AGO.fullmatch(text.strip().lower()):
            return (now or datetime.now(UTC)) - _length(ago)
        return by_this_clock(text)
    except (ValueError, OverflowError) as error:
        raise SettingsInvalid(
            f"--since {text}: give how long ago, such as 90m, 24h or 7d, or a day or time, such as 2026-12-31 or 2026-12-31T18:00."
        ) from error
