"""Which filters are refused, and how a filter that names the status field becomes a phase.

A filter must select the same documents whenever it is asked: it is evaluated again at every chunk,
after every crash, and in the sweep.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import bson
from bson import json_util
from bson.errors import BSONError

from whimbrel.domain.uuids import UNSPECIFIED, writing
from whimbrel.errors import FilterRefused

DEEPEST = 20  # levels; deeper filters are not written by people

REFUSED = {
    "$where": "it runs JavaScript on the server",
    "$function": "it runs JavaScript on the server",
    "$accumulator": "it runs JavaScript on the server",
    "$text": "a text search cannot be combined with the ranges of _id that batches are",
    "$near": "it sorts by distance, and batches are ranges of _id",
    "$nearSphere": "it sorts by distance, and batches are ranges of _id",
    "$rand": "it selects other documents each time it is asked",
    "$sampleRate": "it selects other documents each time it is asked",
}

# A status that a phase starts from, by the phase's name.
PHASE_STATUS = {"pending": "pending", "processing": "processing", "failed": "failed"}


def check_filter(filter_: Mapping[str, Any]) -> None:
    """Raise FilterRefused, with the place and the reason, for an operator that is refused at any depth."""
    _check(filter_, "", 0)
    try:
        bson.encode(filter_, codec_options=writing(UNSPECIFIED))
    except (BSONError, OverflowError, TypeError, ValueError) as error:
        raise FilterRefused(f"The filter holds a value that MongoDB cannot store: {error}.") from error


def _check(value: Any, where: str, level: int) -> None:
    if level > DEEPEST:
        raise FilterRefused(
            f"The filter is nested more than {DEEPEST} levels deep at {where[:80]!r}. Write it flatter."
        )
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise FilterRefused(
                    f"The filter has a field name that is no text at {where or 'the top'!r}: {key!r}."
                )
            path = f"{where}.{key}" if where else key
            if key in REFUSED:
                raise FilterRefused(f"The filter uses {key} at {path!r}, which is refused: {REFUSED[key]}.")
            if "\0" in key:
                raise FilterRefused(f"The filter has a NUL character in a field name at {path!r}.")
            _check(inner, path, level + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check(inner, f"{where}[{index}]", level + 1)


class _Once(dict[str, Any]):
    """A document of which no field is given twice: JSON would take the last one and forget the other condition."""

    def __init__(self, pairs: Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__()
        for name, value in pairs:
            if name in self:
                raise FilterRefused(
                    f"The filter has the field {name!r} twice in one document. Join the two with $and."
                )
            self[name] = value


_JSON = json_util.RELAXED_JSON_OPTIONS.with_options(document_class=_Once)


def parse_filter(text: str) -> dict[str, Any]:
    """Read an Extended-JSON filter.

    Raises FilterRefused that says where the text cannot be read, or what is refused in it.
    """
    try:
        found = json_util.loads(text, json_options=_JSON)
    except RecursionError as error:
        raise FilterRefused(
            f"The filter is nested more than {DEEPEST} levels deep. Write it flatter."
        ) from error
    except ValueError as error:
        message, line, column = (
            getattr(error, "msg", str(error)),
            getattr(error, "lineno", 1),
            getattr(error, "colno", None),
        )
        place = f" at line {line}, column {column}" if column else ""
        raise FilterRefused(
            f'The filter is not Extended JSON{place}: {message}. Write it such as \'{{"status": "pending"}}\'.'
        ) from error
    except (BSONError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        raise FilterRefused(f"The filter holds a value that is not Extended JSON: {error}.") from error
    if not isinstance(found, dict):
        raise FilterRefused(
            f'The filter must be a document such as \'{{"status": "pending"}}\', not {text[:80]!r}.'
        )
    check_filter(found)
    return found


def split_status(filter_: Mapping[str, Any], status_field: str) -> tuple[dict[str, Any], str | None]:
    """Part a filter into what it says of the documents and the phase that its status clause means.

    The status clause belongs to the phase (hole H22): `{"status": "pending"}` would never match a
    document that failed. Returns the filter without the clause, and the phase or None.

    Raises FilterRefused where the clause is anything but one of the statuses that a phase starts from.
    """
    rest = {key: value for key, value in filter_.items() if key != status_field}
    if _mentions(rest, status_field):
        raise FilterRefused(
            f"The filter names the status field {status_field!r} inside another condition. The phases of a run go by that field: "
            f"leave it out, or give it alone as {{{status_field!r}: 'pending'}}, 'processing' or 'failed'."
        )
    if status_field not in filter_:
        return rest, None
    clause = filter_[status_field]
    if isinstance(clause, Mapping) and list(clause) == ["$eq"]:
        clause = clause["$eq"]
    if not isinstance(clause, str) or clause not in PHASE_STATUS:
        raise FilterRefused(
            f"The filter asks for {status_field!r} = {clause!r}. The phases of a run go by that field: it can be 'pending', 'processing' or 'failed'."
        )
    return rest, clause


def _mentions(value: Any, name: str) -> bool:
    if isinstance(value, Mapping):
        return any(key == name or _mentions(inner, name) for key, inner in value.items())
    if isinstance(value, list | tuple):
        return any(_mentions(inner, name) for inner in value)
    return bool(value == f"${name}")
