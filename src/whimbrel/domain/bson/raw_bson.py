"""Raw BSON: keys and documents kept as the bytes that MongoDB sent, so that nothing changes on the way.

A document that went through Python types and back is not always the same document (duplicate field
names, regex flags out of order, a DBRef with its fields swapped, text that is not UTF-8). Boundaries of
ranges and the guard of a write therefore carry the bytes themselves (hole H29).
The layout of each type is that of https://bsonspec.org/spec.html.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.raw_bson import RawBSONDocument

_INT32 = struct.Struct("<i")
STRING, DOCUMENT, ARRAY, BINARY, REGEX, DBPOINTER = 0x02, 0x03, 0x04, 0x05, 0x0B, 0x0C
OBJECT_ID, NULL, INT32, INT64 = 0x07, 0x0A, 0x10, 0x12

# Bytes that a value of a fixed-length type takes.
_FIXED = {
    0x01: 8, 0x06: 0, 0x07: 12, 0x08: 1, 0x09: 8, 0x0A: 0,
    0x10: 4, 0x11: 8, 0x12: 8, 0x13: 16, 0x7F: 0, 0xFF: 0,
}  # fmt: skip

# Decodes what users' functions see. A date outside Python's years becomes a DatetimeMS instead of an
# error that would end the whole read.
DOCUMENT_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(
    document_class=dict, datetime_conversion=DatetimeConversion.DATETIME_AUTO, tz_aware=True
)

# Documents as the bytes that MongoDB sent.
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
_SHOWN = DOCUMENT_OPTIONS.with_options(document_class=RawBSONDocument)


def decoded(document: bytes) -> dict[str, Any]:
    """The dicts, lists and values of a document. Raises InvalidBSON, UnicodeDecodeError.

    Every document in it stays one. The driver makes a DBRef of one that has a `$ref`, and writes that with fields in another order, or that were
    not there: a filter would then match other documents.
    """
    return {name: _plain(value) for name, value in RawBSONDocument(document, _SHOWN).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def value_end(data: bytes, kind: int, at: int) -> int:
    """Where the value of type `kind` that starts at `at` ends.

    Raises ValueError for a type byte that BSON does not have.
    """
    if kind in _FIXED:
        return at + _FIXED[kind]
    if kind in (STRING, 0x0D, 0x0E):  # string, code, symbol
        return at + 4 + int(_INT32.unpack_from(data, at)[0])
    if kind in (DOCUMENT, ARRAY, 0x0F):  # document, array, code with scope
        return at + int(_INT32.unpack_from(data, at)[0])
    if kind == BINARY:  # binary: length, subtype, bytes
        return at + 5 + int(_INT32.unpack_from(data, at)[0])
    if kind == REGEX:  # regular expression: two C strings
        return data.index(b"\0", data.index(b"\0", at) + 1) + 1
    if kind == DBPOINTER:  # DBPointer: string, 12 bytes
        return at + 16 + int(_INT32.unpack_from(data, at)[0])
    raise ValueError(f"BSON has no type 0x{kind:02x}")


class Key(NamedTuple):
    """One `_id`, as the bytes of the document `{"_id": value}`. Equal only when byte-equal."""

    raw: bytes

    @classmethod
    def of(cls, value: Any, options: CodecOptions[Any] = DOCUMENT_OPTIONS) -> "Key":
        return cls(bson.encode({"_id": value}, codec_options=options))

    @classmethod
    def of_document(cls, document: bytes) -> "Key":
        """The key of a stored document: MongoDB keeps `_id` as its first field."""
        end = value_end(document, document[4], 9)
        if document[5:9] != b"_id\0":
            raise ValueError("the document does not start with _id")
        return cls(_INT32.pack(end + 1) + document[4:end] + b"\0")

    @classmethod
    def of_value(cls, kind: int, payload: bytes) -> "Key":
        """The key of a raw value."""
        return cls(bytes(document([element(kind, b"_id", payload)]).raw))

    @property
    def kind(self) -> int:
        return self.raw[4]

    @property
    def payload(self) -> bytes:
        return self.raw[9:-1]

    @property
    def value(self) -> Any:
        """The `_id` as a Python value, for people's eyes; the bytes as text where it cannot be decoded."""
        try:
            return decoded(self.raw)["_id"]
        except (bson.errors.InvalidBSON, UnicodeDecodeError):
            return self.payload.decode("utf-8", "backslashreplace")

    @property
    def document(self) -> RawBSONDocument:
        """`{"_id": value}`, to be stored in the ledger."""
        return RawBSONDocument(self.raw)

    def literal(self) -> RawBSONDocument:
        """`{"$literal": value}`, for an aggregation expression."""
        return document([element(self.kind, b"$literal", self.payload)])


def element(kind: int, name: bytes, payload: bytes) -> bytes:
    return bytes((kind,)) + name + b"\0" + payload


def document(elements: Iterable[bytes]) -> RawBSONDocument:
    """A document of raw elements."""
    body = b"".join(elements)
    return RawBSONDocument(_INT32.pack(len(body) + 5) + body + b"\0")


def _array(items: Iterable[tuple[int, bytes]]) -> bytes:
    body = b"".join([bytes((kind,)) + b"%d\0" % i + payload for i, (kind, payload) in enumerate(items)])
    return _INT32.pack(len(body) + 5) + body + b"\0"


def literal_documents(documents: Iterable[bytes]) -> RawBSONDocument:
    """`{"$literal": [document, ...]}`."""
    return document([element(ARRAY, b"$literal", _array((DOCUMENT, each) for each in documents))])


def literal_keys(keys: Iterable[Key]) -> RawBSONDocument:
    """`{"$literal": [_id, ...]}`."""
    return document([element(ARRAY, b"$literal", _array((k.kind, k.payload) for k in keys))])


def keys_under(operator: str, keys: Iterable[Key]) -> RawBSONDocument:
    """`{operator: [_id, ...]}`, such as `{"$in": [...]}` in a query.

    With `$in` the first and the last of them too, where they are of one type: a clustered collection has no other bounds.
    """
    listed = list(keys)
    found = [element(ARRAY, operator.encode(), _array((k.kind, k.payload) for k in listed))]
    kinds = {key.kind for key in listed}
    if operator == "$in" and len(kinds) == 1 and kinds <= _ORDER.keys():
        order = _ORDER[listed[0].kind]
        first, last = (end(listed, key=lambda key: order(key.payload)) for end in (min, max))
        found += [element(first.kind, b"$gte", first.payload), element(last.kind, b"$lte", last.payload)]
    return document(found)


_ORDER: dict[int, Callable[[bytes], Any]] = {
    INT32: lambda payload: int.from_bytes(payload, "little", signed=True),
    INT64: lambda payload: int.from_bytes(payload, "little", signed=True),
    OBJECT_ID: lambda payload: payload,
    STRING: lambda payload: payload[4:-1],
}


def iterate_fields(raw: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """The top-level fields of a raw document in their order: name, type, value."""
    at = 4
    while raw[at]:
        kind, name_end = raw[at], raw.index(b"\0", at + 1)
        end = value_end(raw, kind, name_end + 1)
        yield raw[at + 1 : name_end], kind, raw[name_end + 1 : end]
        at = end


def elements(raw: bytes) -> dict[bytes, tuple[int, bytes]]:
    """The top-level fields of a raw document: name to type and value. Of a name that is there twice, the first."""
    return by_name(iterate_fields(raw))


def by_name(fields: Iterable[tuple[bytes, int, bytes]]) -> dict[bytes, tuple[int, bytes]]:
    """Fields as `walk` gives them: name to type and value. Of a name that is there twice, the first."""
    found: dict[bytes, tuple[int, bytes]] = {}
    for name, kind, payload in fields:
        if name not in found:
            found[name] = (kind, payload)
    return found


def repeated(raw: bytes) -> frozenset[bytes]:
    """The top-level field names that a document has more than once: BSON allows it, and some drivers wrote it."""
    counts = Counter(name for name, _, _ in iterate_fields(raw))
    return frozenset(name for name, count in counts.items() if count > 1)


def repeats(raw: bytes, kind: int = DOCUMENT) -> bool:
    """Whether a document holds a field name twice, at any depth."""
    if kind == DOCUMENT and repeated(raw):
        return True
    return any(repeats(value, inner) for _, inner, value in iterate_fields(raw) if inner in (DOCUMENT, ARRAY))


def spliced(raw: bytes, values: bytes, unset: Iterable[str]) -> RawBSONDocument:
    """A document with new values of top-level fields, each in its old place or at the end, and without others.

    What is not named stays as it is, byte for byte.
    """
    new = elements(values)
    gone = {name.encode() for name in unset}
    kept = [
        element(*_named(name, new.pop(name, (kind, payload))))
        for name, kind, payload in iterate_fields(raw)
        if name not in gone
    ]
    return document([*kept, *(element(*_named(name, value)) for name, value in new.items())])


def _named(name: bytes, value: tuple[int, bytes]) -> tuple[int, bytes, bytes]:
    return value[0], name, value[1]


def split(batch: bytes) -> list[bytes]:
    """The documents of a raw reply, one after the other."""
    found, at = [], 0
    while at < len(batch):
        end = at + int(_INT32.unpack_from(batch, at)[0])
        found.append(batch[at:end])
        at = end
    return found


def text_at(document: bytes, path: Sequence[bytes]) -> str | None:
    """The text at a path of a raw document, which need not be one that can be decoded."""
    kind, value = elements(document).get(path[0], (0, b""))
    if len(path) > 1:
        return text_at(value, path[1:]) if kind == DOCUMENT else None
    return value[4:-1].decode("utf-8", "replace") if kind == STRING else None
