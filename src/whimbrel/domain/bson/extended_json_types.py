"""The types of Extended JSON, one by one: from what stands under the type's name to the value. Nothing is rounded, cut or guessed."""

import base64
import binascii
import math
import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

INT32: Final = (-(2**31), 2**31 - 1)
INT64: Final = (-(2**63), 2**63 - 1)
UINT32: Final = (0, 2**32 - 1)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND: Final = timedelta(milliseconds=1)

_WHOLE = re.compile(r"-?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ENDLESS = ("NaN", "Infinity", "-Infinity")
_OBJECT_ID = re.compile(r"[0-9a-fA-F]{24}")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}")
_SUBTYPE = re.compile(r"[0-9a-fA-F]{1,2}")
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:T([0-9]{2}:[0-9]{2})(:[0-9]{2})?(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:?[0-9]{2}))?"
)


class Malformed(ValueError):
    """Raised for what cannot stand under a type's name. Its text follows that name."""


def _matching(value: Any, pattern: re.Pattern[str], wanted: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Malformed(f"needs {wanted}, not {value!r:.60}")
    return value


def _parts(value: Any, kinds: Mapping[str, type], wanted: str) -> list[Any]:
    """Returns the fields of a document that has exactly these."""
    right = isinstance(value, dict) and value.keys() == kinds.keys()
    if not right or any(type(value[name]) is not kind for name, kind in kinds.items()):
        raise Malformed(f"needs {wanted}, not {value!r:.60}")
    return [value[name] for name in kinds]


def _whole_number(value: Any, limits: tuple[int, int]) -> int:
    number = int(_matching(value, _WHOLE, "a text of digits"))
    if not limits[0] <= number <= limits[1]:
        raise Malformed(f"cannot hold {number}")
    return number


def _double(value: Any) -> float:
    if value in _ENDLESS:
        return float(value)
    number = float(_matching(value, _NUMBER, "a text that is a number, NaN, Infinity or -Infinity"))
    if not math.isfinite(number):
        raise Malformed(f"cannot hold {value[:60]}")
    return number


def _decimal(value: Any) -> Decimal128:
    text = value if value in _ENDLESS else _matching(value, _NUMBER, "a text that is a number")
    try:
        return Decimal128(text)
    except (ArithmeticError, ValueError) as error:
        raise Malformed(f"holds 34 digits, and not {text[:60]} exactly") from error


def _moment(value: Any) -> DatetimeMS:
    """Reads milliseconds since 1970 as a whole number, or ISO 8601. What is finer than a millisecond is cut, as the shell does."""
    if isinstance(value, int) and not isinstance(value, bool):
        return DatetimeMS(int(value))
    wanted = "a time with its zone such as '2026-11-24T12:00:00Z', a day, or milliseconds since 1970"
    text = _matching(value, _MOMENT, wanted)
    day, time, seconds, fraction, zone = re.fullmatch(_MOMENT, text).groups()  # type: ignore[union-attr]  # it matched
    if time is None:
        time, zone = "00:00", "Z"
    if fraction and not seconds:
        raise Malformed(f"needs {wanted}, not {value!r:.60}")
    try:
        moment = datetime.fromisoformat(f"{day}T{time}{seconds or ':00'}{zone}")
    except ValueError as error:
        raise Malformed(f"needs {wanted}, not {value!r:.60}: {error}") from error
    return DatetimeMS((moment - EPOCH) // MILLISECOND + int((fraction or "0")[:3].ljust(3, "0")))


def _binary(value: Any) -> Binary:
    data, subtype = _parts(
        value, {"base64": str, "subType": str}, '{"base64": ..., "subType": two hexadecimal digits}'
    )
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"needs base64, not {data!r:.60}: {error}") from error
    return Binary(decoded, int(_matching(subtype, _SUBTYPE, "a subType of two hexadecimal digits"), 16))


def _timestamp(value: Any) -> Timestamp:
    wanted = '{"t": seconds, "i": number}, both of 32 bits'
    seconds, number = _parts(value, {"t": int, "i": int}, wanted)
    if not all(UINT32[0] <= half <= UINT32[1] for half in (seconds, number)):
        raise Malformed(f"needs {wanted}, not {value!r:.60}")
    return Timestamp(seconds, number)


def _expression(value: Any) -> Regex[str]:
    wanted = '{"pattern": ..., "options": of the letters ilmsux, each once}, without NUL'
    pattern, options = _parts(value, {"pattern": str, "options": str}, wanted)
    if "\0" in pattern or not set(options) <= set("ilmsux") or len(set(options)) < len(options):
        raise Malformed(f"needs {wanted}, not {value!r:.60}")
    return Regex(pattern, options)


def _code(value: Any) -> Code:
    if not isinstance(value, str):
        raise Malformed(f"needs a text, not {value!r:.60}")
    return Code(value)


def _end(end: MinKey | MaxKey) -> Callable[[Any], MinKey | MaxKey]:
    def reader(value: Any) -> MinKey | MaxKey:
        if value != 1 or not isinstance(value, int) or isinstance(value, bool):
            raise Malformed(f"needs 1, not {value!r:.60}")
        return end

    return reader


def _refused(hint: str) -> Callable[[Any], Any]:
    def reader(_: Any) -> Any:
        raise Malformed(f"is of a type that MongoDB has given up. {hint}")

    return reader


READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "$oid": lambda value: ObjectId(_matching(value, _OBJECT_ID, "24 hexadecimal digits")),
    "$uuid": lambda value: Binary(uuid.UUID(_matching(value, _UUID, "a UUID")).bytes, 4),
    "$binary": _binary,
    "$date": _moment,
    "$timestamp": _timestamp,
    "$numberInt": lambda value: _whole_number(value, INT32),
    "$numberLong": lambda value: Int64(_whole_number(value, INT64)),
    "$numberDouble": _double,
    "$numberDecimal": _decimal,
    "$regularExpression": _expression,
    "$code": _code,
    "$minKey": _end(MinKey()),
    "$maxKey": _end(MaxKey()),
    "$undefined": _refused("Write null"),
    "$symbol": _refused("Write a text"),
    "$dbPointer": _refused('Write {"$ref": ..., "$id": ...}'),
}
"""What an object with this name stands for. Each raises Malformed."""
