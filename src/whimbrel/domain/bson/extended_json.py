"""Reads Extended JSON: a text means what MongoDB's shell means by it, or is refused with the place.

An object that holds the name of a type, such as `$oid` or `$date`, is a value; anything else in it would be lost, so it is refused.
`$regex`, `$options` and `$type` are operators of queries, and `$ref`, `$id` and `$db` are fields: objects with these stay objects, in order.
https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from bson import Code

from whimbrel.domain.bson.extended_json_types import INT64, READERS, Malformed

DEEPEST: Final = 100  # nested levels of objects and arrays
LONGEST_NUMBER: Final = 400  # digits: more exceed every type
LONGEST_PLACE: Final = 200  # characters: names of fields can have any length
BESIDE: Final = {"$code": "$scope"}  # the only name of a type that may have another field beside it
MATCHING: Final = ("$in", "$nin", "$all")  # their arrays hold values, and no operators


class Unreadable(ValueError):
    """Raised for what is not Extended JSON. `place`: the path to it; empty at the top."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{why}, at {place!r}" if place else why)
        self.place, self.why = place, why


class Repeated(Unreadable):
    """Raised for an object with a repeated name: JSON's readers take the last value, and forget the others."""

    def __init__(self, place: str, name: str) -> None:
        super().__init__(place, f"the field {name[:80]!r} twice in one document")
        self.name = name


class TooDeep(Unreadable):
    """Raised for an object or array within too many others."""


class _Pairs:
    """An object as it is written."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


class _NoNumber:
    """Something that some readers take for a number, but that JSON or BSON does not allow."""

    def __init__(self, text: str) -> None:
        self.text = text


def parse(text: str) -> Any:
    """Returns the value of a text, as Python has values of BSON.

    Raises Unreadable; json.JSONDecodeError, with line and column, for what is not JSON.
    """
    try:
        parsed = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_NoNumber, parse_int=_digits)
    except RecursionError as error:
        raise TooDeep("", f"it is nested deeper than {DEEPEST} levels") from error
    return read(parsed)


def read(value: Any, place: str = "") -> Any:
    """Returns the value of Extended JSON that was read as plain JSON already. Raises Unreadable."""
    return _value(value, place, 0)


def _digits(text: str) -> int | _NoNumber:
    return int(text) if len(text) <= LONGEST_NUMBER else _NoNumber(text)


def _value(value: Any, place: str, level: int) -> Any:
    if level > DEEPEST:
        raise TooDeep(place, f"it is nested deeper than {DEEPEST} levels")
    if isinstance(value, _Pairs | Mapping):
        return _object(_once(value, place), place, level)
    if isinstance(value, list):
        return [_value(element, below(place, index), level + 1) for index, element in enumerate(value)]
    if isinstance(value, str):
        return _text(value, place)
    if value is None or isinstance(value, bool):
        return value
    return _number(value, place)


def _number(value: Any, place: str) -> int | float:
    if isinstance(value, int) and INT64[0] <= value <= INT64[1]:
        return value
    if isinstance(value, int) or (isinstance(value, _NoNumber) and value.text.lstrip("-").isdigit()):
        raise Unreadable(
            place, "a value that MongoDB cannot store: a whole number of more than 64 bits; write it as $numberDecimal"
        )  # fmt: skip
    if isinstance(value, float) and math.isfinite(value):
        return value
    written = value.text if isinstance(value, _NoNumber) else str(value)
    raise Unreadable(
        place, f"{written[:40]} is no number of JSON, or beyond a double; if it is meant, write it as $numberDouble"
    )  # fmt: skip


def _text(value: str, place: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Unreadable(place, "a text with half a surrogate pair") from error
    return value


def _once(value: _Pairs | Mapping[str, Any], place: str) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, inner in value.pairs if isinstance(value, _Pairs) else value.items():
        if name in fields:
            raise Repeated(place, name)
        fields[_text(name, place)] = inner
    return fields


def _object(fields: dict[str, Any], place: str, level: int) -> Any:
    kind = next((name for name in fields if name in READERS), None)
    values = {name: _value(inner, below(place, name), level + 1) for name, inner in fields.items()}
    if kind is None:
        _check_matching(values, place)
        return values
    other = next((name for name in fields if name not in (kind, BESIDE.get(kind))), None)
    if other is not None:
        hint = " Operators go with $regex." if kind == "$regularExpression" else ""
        raise Unreadable(place, f"{kind} makes a value of its object, so {other[:80]!r} cannot stand beside it.{hint}".rstrip("."))  # fmt: skip
    try:
        return typed(kind, values)
    except Malformed as error:
        raise Unreadable(place, f"{kind} {error}") from error


def below(place: str, name: str | int) -> str:
    """Returns the place of a field, or of an element by its position; of a long place the beginning."""
    if len(place) > LONGEST_PLACE:
        return place
    inner = f"[{name}]" if isinstance(name, int) else name[:LONGEST_PLACE]
    return f"{place}.{inner}" if place and not isinstance(name, int) else place + inner


def _check_matching(fields: Mapping[str, Any], place: str) -> None:
    """Raises a clear error here: MongoDB refuses a $regex without telling how a regular expression is written."""
    for name in MATCHING:
        values = fields.get(name)
        for index, element in enumerate(values if isinstance(values, list) else []):
            if isinstance(element, dict) and "$regex" in element:
                raise Unreadable(
                    below(below(place, name), index),
                    f'$regex is an operator, which cannot stand in {name}; write {{"$regularExpression": {{"pattern": ..., "options": ...}}}}',
                )


def typed(kind: str, fields: Mapping[str, Any]) -> Any:
    """Returns the value that an object with the name of a type stands for. Raises Malformed."""
    if kind != "$code" or "$scope" not in fields:
        return READERS[kind](fields[kind])
    code, scope = READERS[kind](fields[kind]), fields["$scope"]
    if not isinstance(scope, dict):
        raise Malformed("needs a document as its $scope")
    return Code(code, scope)


def parse_canonical(text: str) -> Any:
    """Returns the value that the driver wrote as canonical Extended JSON, as earlier versions stored filters.

    That writer knows no `$regex` for values, and never writes a malformed type, so what looks like one is a document.
    """

    def document(pairs: list[tuple[str, Any]]) -> Any:
        fields = dict(pairs)
        kind = next((name for name in fields if name in READERS), None)
        if kind is None or not fields.keys() <= {kind, BESIDE.get(kind)}:
            return fields
        try:
            return typed(kind, fields)
        except Malformed:
            return fields

    return json.loads(text, object_pairs_hook=document)
