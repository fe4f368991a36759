"""BSON made by hand: every type, also those that drivers no longer write; and documents of them for hypothesis."""

import struct
from datetime import UTC, datetime
from typing import Any

from bson import Binary, Decimal128, Int64, ObjectId, Regex
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from whimbrel.domain.bson.raw_bson import document, element

Value = tuple[int, bytes]  # a type and the bytes of a value


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<i", len(data) + 1) + data + b"\0"


def int32(value: int) -> Value:
    return 0x10, struct.pack("<i", value)


def int64(value: int) -> Value:
    return 0x12, struct.pack("<q", value)


def double(value: float) -> Value:
    return 0x01, struct.pack("<d", value)


def decimal(low: int, exponent: int = 0) -> Value:
    """`low` times ten to the power of `exponent`, as a Decimal128."""
    return 0x13, struct.pack("<QQ", low, (exponent + 6176) << 49)


def string(value: str) -> Value:
    return 0x02, text(value)


def symbol(value: str) -> Value:
    return 0x0E, text(value)


def date(milliseconds: int) -> Value:
    return 0x09, struct.pack("<q", milliseconds)


def binary(data: bytes, subtype: int = 0) -> Value:
    return 0x05, struct.pack("<iB", len(data), subtype) + data


def regex(pattern: str, flags: str) -> Value:
    return 0x0B, pattern.encode() + b"\0" + flags.encode() + b"\0"


def db_pointer(collection: str, oid: bytes) -> Value:
    return 0x0C, text(collection) + oid


def scoped(code: str, *fields: bytes) -> Value:
    body = text(code) + bytes(document(fields).raw)
    return 0x0F, struct.pack("<i", len(body) + 4) + body


def embedded(*fields: bytes) -> Value:
    return 0x03, bytes(document(fields).raw)


def array(*values: Value) -> Value:
    return 0x04, bytes(document(field(str(i), each) for i, each in enumerate(values)).raw)


def field(name: str, value: Value) -> bytes:
    return element(value[0], name.encode(), value[1])


NULL: Value = (0x0A, b"")
UNDEFINED: Value = (0x06, b"")
MIN_KEY: Value = (0xFF, b"")
MAX_KEY: Value = (0x7F, b"")
TRUE: Value = (0x08, b"\1")
OBJECT_ID: Value = (0x07, bytes(range(12)))
TIMESTAMP: Value = (0x11, struct.pack("<II", 3, 1_700_000_000))
YEAR_14645 = date(399_999_999_999_999)
BAD_TEXT: Value = (0x02, struct.pack("<i", 3) + b"\xff\xfe\0")

# One value of every type of BSON.
EACH_TYPE: dict[str, Value] = {
    "double": double(1.5), "string": string("text ü"), "object": embedded(field("a", int32(1))),
    "array": array(int32(1), string("b")), "binData": binary(b"\1\2", 128), "undefined": UNDEFINED, "objectId": OBJECT_ID,
    "bool": TRUE, "date": date(-5), "null": NULL, "regex": regex("^a.*", "im"), "dbPointer": db_pointer("c", bytes(12)),
    "javascript": (0x0D, text("f()")), "symbol": symbol("s"), "javascriptWithScope": scoped("f()", field("x", int32(1))),
    "int": int32(-7), "timestamp": TIMESTAMP, "long": int64(2**40), "decimal": decimal(500, -2), "minKey": MIN_KEY,
    "maxKey": MAX_KEY,
}  # fmt: skip

NAMES = st.sampled_from(["a", "b", "c", "0", "1", "ü", "a.b", "$a", "b.$", ""])
_LEAVES: st.SearchStrategy[Value] = st.one_of(
    st.sampled_from(
        [*EACH_TYPE.values(), YEAR_14645, binary(bytes(16), 4), binary(bytes(16), 3), binary(b"", 0)]
    ),
    st.integers(-(2**31), 2**31 - 1).map(int32),
    st.integers(-(2**63), 2**63 - 1).map(int64),
    st.floats().map(double),
    st.integers(0, 10**15).map(decimal),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5).map(string),
    st.binary(max_size=5).map(binary),
)


def _fields(values: st.SearchStrategy[Value]) -> st.SearchStrategy[list[bytes]]:
    return st.dictionaries(NAMES, values, max_size=4).map(
        lambda found: [field(name, value) for name, value in found.items()]
    )


VALUES: st.SearchStrategy[Value] = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        _fields(inner).map(lambda found: embedded(*found)),
        st.lists(inner, max_size=3).map(lambda found: array(*found)),
    ),
    max_leaves=6,
)
FIELDS = _fields(VALUES)
"""The fields of a document, without `_id`: all types, nested, with names that hold dots and dollars or nothing."""


def documents(key: Value, fields: list[bytes]) -> bytes:
    return bytes(document([field("_id", key), *fields]).raw)


def python_values() -> st.SearchStrategy[Any]:
    """Values as a function would return them."""
    leaves = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
        st.binary(max_size=4), st.sampled_from([
            Int64(5), Decimal128("1.50"), ObjectId(bytes(12)), Regex("a", "i"), Binary(bytes(16), 4),
            datetime(2020, 1, 2, 3, 4, 5, 6789, tzinfo=UTC),
        ]),
    )  # fmt: skip
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.dictionaries(NAMES, inner, max_size=3), st.lists(inner, max_size=3)),
        max_leaves=4,
    )


def updates(parts: list[str], *, nested_renames: bool) -> st.SearchStrategy[dict[str, Any]]:
    """Updates by operators, at paths of up to three of these parts."""
    names = st.sampled_from(parts)
    paths = st.lists(names, min_size=1, max_size=3).map(".".join)
    renamed = paths if nested_renames else names
    return st.fixed_dictionaries(
        {},
        optional={
            "$set": st.dictionaries(paths, python_values(), min_size=1, max_size=3),
            "$unset": st.dictionaries(paths, st.just(""), min_size=1, max_size=2),
            "$inc": st.dictionaries(paths, st.integers(-5, 5), min_size=1, max_size=1),
            "$push": st.dictionaries(paths, st.integers(0, 5), min_size=1, max_size=1),
            "$rename": st.dictionaries(renamed, renamed, min_size=1, max_size=1),
        },
    ).filter(bool)


def relaxed(examples: int, *also: HealthCheck) -> settings:
    """For properties of a real MongoDB: that takes its time, and a fixture holds it for all examples."""
    slow = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, *also]
    return settings(max_examples=examples, deadline=None, suppress_health_check=slow)
