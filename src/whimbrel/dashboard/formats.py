"""Formats values for people: the filters of the templates. `static/formats.js` does the same in the browser."""

from datetime import UTC, datetime
from typing import Any, Final

from markupsafe import Markup, escape

from whimbrel.dashboard.drawing import spark_path, utc
from whimbrel.dashboard.shown_values import one_line

NONE: Final = "\N{EN DASH}"  # where there is no value
_SIZES: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_SMALL = 10  # below it a number gets a decimal


def number(value: float | None) -> str:
    """Returns a number with its thousands grouped: `1,234,567`, `0.4`."""
    if value is None:
        return NONE
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) < _SMALL else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """Returns a share of 1 as `12.3 %`; never 0 % or 100 % where that is only nearly so."""
    if share is None:
        return NONE
    value = 100 * share
    if value in (0, 100):
        return f"{value:.0f} %"
    return f"{min(max(value, 0.1), 99.9):.1f} %" if 0 < value < 100 else f"{value:,.1f} %"  # noqa: PLR2004


def duration(seconds: float | None) -> str:
    """Returns `0.4 s`, `12 s`, `3 min 12 s`, `2 h 5 min`, `4 d 3 h`."""
    if seconds is None:
        return NONE
    if seconds < _SMALL:
        return "0 s" if seconds <= 0 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "min")
    return _two(whole, _DAY, "d", _HOUR, "h")


def _two(seconds: int, large: int, name: str, small: int, small_name: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large:,} {name}" + (f" {rest} {small_name}" if rest else "")


def bytes_(size: float | None) -> str:
    """Returns `812 bytes`, `1.2 MB`."""
    if size is None:
        return NONE
    for unit, name in _SIZES:
        if size >= unit:
            return f"{number(size / unit)} {name}"
    return f"{number(size)} bytes"


def moment(value: datetime | str | None) -> Markup:
    """Returns a `<time>` in UTC, which the page's JavaScript turns into the zone of the viewer. Takes a datetime, or RFC 3339."""
    if value is None:
        return escape(NONE)
    try:
        at = (datetime.fromisoformat(value) if isinstance(value, str) else value).astimezone(UTC)
    except ValueError:
        return escape(value)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), f"{at:%Y-%m-%d %H:%M:%S} UTC"
    )


FILTERS: Final[dict[str, Any]] = {
    "number": number,
    "percent": percent,
    "duration": duration,
    "bytes": bytes_,
    "time": moment,
    "spark_path": spark_path,
    "one_line": one_line,
    "utc": utc,
}
