"""Time zones by their names in the IANA database."""

import difflib
from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, available_timezones

from whimbrel.errors import SettingsInvalid

OWN_ZONES = {"localtime", "posixrules", "Factory"}  # what they mean differs from host to host


def check_zone(name: str) -> str:
    """Checks the name of a time zone. Raises SettingsInvalid."""
    time_zone(name)
    return name


def time_zone(name: str) -> tzinfo:
    """Returns the time zone; UTC as the constant that cronsim recognises and handles quickly. Raises SettingsInvalid."""
    if name == "UTC":
        return UTC
    try:
        if name in OWN_ZONES:
            raise ValueError(name)  # noqa: TRY301
        return ZoneInfo(name)
    # KeyError: it does not exist; OSError: it is a folder of zones.
    except (KeyError, ValueError, OSError) as error:
        known = {zone.casefold(): zone for zone in available_timezones() - OWN_ZONES}
        similar = [known[found] for found in difflib.get_close_matches(name[:80].casefold(), known, n=1)]
        hint = f"Did you mean {similar[0]!r}?" if similar else "Write it such as 'Europe/Berlin', or UTC."
        raise SettingsInvalid(f"zone {name[:80]!r} is no time zone that this host knows. {hint}") from error
