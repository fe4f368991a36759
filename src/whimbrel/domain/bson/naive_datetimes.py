"""Times without a zone in what a function returned: MongoDB would store them as if they were UTC."""

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

FIELDS = 20  # that are named
VALUES = 100_000  # that are looked at


def naive_datetime_fields(returned: Any) -> tuple[str, ...]:
    """Dotted paths of fields, with a time without a zone, of a document, an update or a pipeline; an array is one field."""
    found: dict[str, None] = {}
    todo = deque([("", returned)])
    for _ in range(VALUES):
        if not todo or len(found) == FIELDS:
            break
        path, value = todo.popleft()
        if isinstance(value, datetime) and value.utcoffset() is None:
            found[path] = None
        elif isinstance(value, Mapping):
            todo.extend((_under(path, str(name)), inner) for name, inner in value.items())
        elif isinstance(value, list | tuple):
            todo.extend((path, inner) for inner in value)
    return tuple(found)


def _under(path: str, name: str) -> str:
    """Names of operators are no fields."""
    return path if name[:1] == "$" else f"{path}.{name}" if path else name
