"""Shows values of documents, ids and filters as people know them from MongoDB's shell, in bounded length. They are texts: templates escape them.

Takes Extended JSON. Only the canonical form tells all numbers apart.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

LONGEST: Final = 2000  # characters of a value; a document may have 16 MB
LINE: Final = 600  # characters of a value in a line
INDENT: Final = "  "
_NUMBERS: Final = {
    "$numberInt": "{}",
    "$numberDouble": "{}",
    "$numberLong": "NumberLong({})",
    "$numberDecimal": 'NumberDecimal("{}")',
}
_TEXTS: Final = {
    "$oid": 'ObjectId("{}")',
    "$uuid": 'UUID("{}")',
    "$symbol": 'Symbol("{}")',
    "$code": 'Code("{}")',
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as text; `more`: how many characters were left out."""

    text: str
    more: int = 0


def shown(value: Any, *, longest: int = LONGEST) -> Shown:
    """Returns a value over as many lines as it has parts."""
    text = _text(value, "")
    return Shown(text[:longest], max(0, len(text) - longest))


def one_line(value: Any, *, longest: int = LINE) -> str:
    """Returns a value as one line; of a long one its beginning, and how much is missing."""
    text = _text(value, None)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} more characters)"


def _text(value: Any, indent: str | None) -> str:
    """`indent`: of the line that the value begins in; None: all is in one line."""
    within = None if indent is None else indent + INDENT
    if isinstance(value, Mapping):
        return _special(value) or _lines(
            "{",
            [f"{_name(name)}: {_text(part, within)}" for name, part in value.items()],
            "}",
            indent,
        )
    if isinstance(value, list):
        return _lines("[", [_text(part, within) for part in value], "]", indent)
    return json.dumps(value, ensure_ascii=False)


def _special(value: Mapping[str, Any]) -> str:
    """Returns a value of a type that JSON does not have; an empty text where it is a document."""
    if len(value) != 1:
        return ""
    ((name, inner),) = value.items()
    if name in _NUMBERS and isinstance(inner, str):
        return _NUMBERS[name].format(inner)
    if name in _TEXTS and isinstance(inner, str):
        return _TEXTS[name].format(inner)
    if name == "$date":
        return f"ISODate({_date(inner)})"
    return ""


def _date(value: Any) -> str:
    if isinstance(value, Mapping) and set(value) == {"$numberLong"}:
        return _moment(int(value["$numberLong"]))
    return json.dumps(value)


def _moment(milliseconds: int) -> str:
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:  # MongoDB has times that Python has not
        return str(milliseconds)
    return f'"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"'


def _name(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name, ensure_ascii=False)


def _lines(begin: str, parts: list[str], end: str, indent: str | None) -> str:
    if not parts:
        return begin + end
    if indent is None:
        return f"{begin}{', '.join(parts)}{end}"
    inner = f",\n{indent}{INDENT}".join(parts)
    return f"{begin}\n{indent}{INDENT}{inner}\n{indent}{end}"
