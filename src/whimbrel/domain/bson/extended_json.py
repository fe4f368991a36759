"""Extended JSON, read: a text means what MongoDB's shell means by it, or is refused with the place.

An object that holds the name of a type, such as `$oid` or `$date`, is a value; whatever else stands in it would be lost, so it is refused.
`$regex`, `$options` and `$type` are operators of queries, and `$ref`, `$id` and `$db` are fields: objects with these stay objects, in order.
https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from bson import Code

from whimbrel.domain.bson.extended_json_types import INT64, READERS, Malformed

DEEPEST: Final = 100  # levels of objects and arrays in one another
LONGEST_NUMBER: Final = 400  # digits: more are beyond every type
LONGEST_PLACE: Final = 200  # characters: the names of fields are as long as somebody likes
BESIDE: Final = {"$code": "$scope"}  # the only name of a type that may have company
MATCHING: Final = ("$in", "$nin", "$all")  # their arrays hold values, and no operators


class Unreadable(ValueError):
    """What is no Extended JSON. `place`: the path to it; empty at the top."""

    def __init__(self, place: str, why: str) -> None:
        super().__init__(f"{why}, at {place!r}" if place else why)
        self.place, self.why = place, why


class Repeated(Unreadable):
    """An object with a name twice: JSON's readers take the last, and forget the other."""

    def __init__(self, place: str, name: str) -> None:
        super().__init__(place, f"the field {name[:80]!r} twice in one document")
        self.name = name


class TooDeep(Unreadable):
    """An object or array within too many others."""


class _Pairs:
    """An object as it is written."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        self.pairs = pairs


class _NoNumber:
    """What some take for a number, and JSON or BSON does not."""

    def __init__(self, text: str) -> None:
        self.text = text


def parse(text: str) -> Any:
    """The value of a text, as Python has values of BSON.

    Raises Unreadable; json.JSONDecodeError, with line and column, for what is no JSON.
    """
    try:
        found = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_NoNumber, parse_int=_digits)
    except RecursionError as error:
        raise TooDeep("", f"it is nested deeper than {DEEPEST} levels") from error
    return read(found)


def read(value: Any, place: str = "") -> Any:
    """The value of Extended JSON that was read as plain JSON already. Raises Unreadable."""
    return _value(value, place, 0)


def _digits(text: str) -> int | _NoNumber:
    return int(text) if len(text) <= LONGEST_NUMBER else _NoNumber(text)


def _value(value: Any, place: str, level: int) -> Any:
    if level > DEEPEST:
        raise TooDeep(place, f"it is nested deeper than {DEEPEST} levels")
    if isinstance(value, _Pairs | Mapping):
        return _object(_once(value, place), place, level)
    if isinstance(value, list):
        return [_value(each, below(place, index), level + 1) for index, each in enumerate(value)]
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
    said = value.text if isinstance(value, _NoNumber) else str(value)
    raise Unreadable(
        place, f"{said[:40]} is no number of JSON, or beyond a double; if it is meant, write it as $numberDouble"
    )  # fmt: skip


def _text(value: str, place: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise Unreadable(place, "a text with half a surrogate pair") from error
    return value


def _once(value: _Pairs | Mapping[str, Any], place: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in value.pairs if isinstance(value, _Pairs) else value.items():
        if name in found:
            raise Repeated(place, name)
        found[_text(name, place)] = inner
    return found


def _object(fields: dict[str, Any], place: str, level: int) -> Any:
    kind = next((name for name in fields if name in READERS), None)
    found = {name: _value(inner, below(place, name), level + 1) for name, inner in fields.items()}
    if kind is None:
        _check_matching(found, place)
        return found
    company = next((name for name in fields if name not in (kind, BESIDE.get(kind))), None)
    if company is not None:
        hint = " Operators go with $regex." if kind == "$regularExpression" else ""
        raise Unreadable(place, f"{kind} makes a value of its object, so {company[:80]!r} cannot stand beside it.{hint}".rstrip("."))  # fmt: skip
    try:
        return typed(kind, found)
    except Malformed as error:
        raise Unreadable(place, f"{kind} {error}") from error


def below(place: str, name: str | int) -> str:
    """The place of a field, or of an element by its position; of a long one its beginning."""
    if len(place) > LONGEST_PLACE:
        return place
    inner = f"[{name}]" if isinstance(name, int) else name[:LONGEST_PLACE]
    return f"{place}.{inner}" if place and not isinstance(name, int) else place + inner


def _check_matching(found: Mapping[str, Any], place: str) -> None:
    """MongoDB refuses a $regex here without a word of how a regular expression is written."""
    for name in MATCHING:
        values = found.get(name)
        for index, each in enumerate(values if isinstance(values, list) else []):
            if isinstance(each, dict) and "$regex" in each:
                raise Unreadable(
                    below(below(place, name), index),
                    f'$regex is an operator, which cannot stand in {name}; write {{"$regularExpression": {{"pattern": ..., "options": ...}}}}',
                )


def typed(kind: str, fields: Mapping[str, Any]) -> Any:
    """The value that an object with the name of a type stands for. Raises Malformed."""
    if kind != "$code" or "$scope" not in fields:
        return READERS[kind](fields[kind])
    code, scope = READERS[kind](fields[kind]), fields["$scope"]
    if not isinstance(scope, dict):
        raise Malformed("needs a document as its $scope")
    return Code(code, scope)


def parse_canonical(text: str) -> Any:
    """The value that the driver wrote as canonical Extended JSON: how earlier versions kept filters.

    That writer knows no `$regex` for values, and writes no malformed type, so what looks like one is a document.
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
