"""Finds times without a zone in what a function returned: MongoDB would store them as if they were UTC."""

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any

FIELDS = 20  # named at most
VALUES = 100_000  # examined at most


def naive_datetime_fields(returned: Any) -> tuple[str, ...]:
    """Returns dotted paths of fields that hold a time without a zone in a document, an update or a pipeline; an array is one field."""
    paths: dict[str, None] = {}
    todo = deque([("", returned)])
    for _ in range(VALUES):
        if not todo or len(paths) == FIELDS:
            break
        path, value = todo.popleft()
        if isinstance(value, datetime) and value.utcoffset() is None:
            paths[path] = None
        elif isinstance(value, Mapping):
            todo.extend((_under(path, str(name)), inner) for name, inner in value.items())
        elif isinstance(value, list | tuple):
            todo.extend((path, inner) for inner in value)
    return tuple(paths)


def _under(path: str, name: str) -> str:
    """Leaves out names of operators, which are not fields."""
    return path if name[:1] == "$" else f"{path}.{name}" if path else name
