"""Reads freezes from a JSON file, and their times from options."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from whimbrel.cli.arguments.points_in_time import by_this_clock, duration, is_duration
from whimbrel.domain.runs.freezes import LONGEST_NOTE, MOST, Freeze
from whimbrel.domain.text.printable import is_whole
from whimbrel.engine.operating.freezing import new_freeze_id
from whimbrel.errors import SettingsInvalid
from whimbrel.ports.freezes import FreezeLook

FORM = 'a list such as [{"from": "2026-12-20T00:00:00Z", "until": "2027-01-02T00:00:00Z", "note": "peak season"}]'
FIELDS = {"from", "until", "to", "note"}
LARGEST = 1_000_000  # bytes


def moment(option: str, text: str, now: datetime) -> datetime:
    """Parses a time of a freeze: so long from now, or a day and time; without an offset by this machine's clock. Raises SettingsInvalid."""
    try:
        if is_duration(text):
            return datetime.fromtimestamp(now.timestamp() + duration(option, text), UTC)
        return by_this_clock(text)
    except (ValueError, OverflowError) as error:
        raise SettingsInvalid(
            f"{option} {text}: give a time such as 2026-12-24T18:00+01:00, or how long from now, such as 30m, 2h or 3d."
        ) from error


def read_freezes(file: Path, look: FreezeLook, who: str) -> list[Freeze]:
    """Reads the freezes of a file. Raises SettingsInvalid that names the entry."""
    try:
        if file.stat().st_size > LARGEST:
            raise SettingsInvalid(f"{file} has more than {LARGEST:,} bytes: it should be {FORM}.")
        entries = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsInvalid(f"{file} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise SettingsInvalid(f"{file} is no JSON: {error}. It should be {FORM}.") from error
    if not isinstance(entries, list) or not entries:
        raise SettingsInvalid(f"{file} has no freezes: it should be {FORM}.")
    if len(entries) > MOST:
        raise SettingsInvalid(f"{file} has {len(entries):,} freezes, and {MOST} are kept at most.")
    return [_freeze(f"{file}, entry {number}", entry, look, who) for number, entry in enumerate(entries, 1)]


def _freeze(place: str, entry: Any, look: FreezeLook, who: str) -> Freeze:
    if not isinstance(entry, dict) or "from" not in entry or not ({"until", "to"} & entry.keys()):
        raise SettingsInvalid(f"{place} needs `from` and `until`. It should be as in {FORM}.")
    if unknown := sorted(str(name) for name in entry.keys() - FIELDS):
        raise SettingsInvalid(f"{place} has {unknown[0]!r}, which no freeze has. It should be as in {FORM}.")
    if {"until", "to"} <= entry.keys():
        raise SettingsInvalid(f"{place} has both `until` and `to`: give one of them.")
    note = entry.get("note", "")
    if not isinstance(note, str) or len(note) > LONGEST_NOTE:
        raise SettingsInvalid(f"{place}: the note is a text of up to {LONGEST_NOTE} characters.")
    if not is_whole(note):
        raise SettingsInvalid(f"{place}: the note has half a surrogate pair: write the character itself.")
    begins = _written(place, "from", entry["from"])
    ends = _written(place, "until", entry.get("until", entry.get("to")))
    if ends <= begins:
        raise SettingsInvalid(f"{place} would end before it begins: exchange `from` and `until`.")
    if ends <= look.now:
        raise SettingsInvalid(f"{place} is over already: remove it, or correct its year.")
    return Freeze(id=new_freeze_id(), begins=begins, ends=ends, note=note, by=who)


def _written(place: str, field: str, value: Any) -> datetime:
    """Parses a time with an offset: a file may be loaded on any host."""
    try:
        parsed = datetime.fromisoformat(value.strip())
        if parsed.tzinfo is None:
            raise SettingsInvalid(
                f"{place}: {field} {value!r} says no offset: write {value.strip()}Z for UTC, or such as +01:00 at its end."
            )
        return parsed.astimezone(UTC)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise SettingsInvalid(
            f"{place}: {field} {value!r} is no time: write it such as 2026-12-24T18:00:00+01:00."
        ) from error
