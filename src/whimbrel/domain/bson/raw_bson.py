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

# The bytes that a value of a fixed-length type takes.
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
    """Returns the dicts, lists and values of a document. Raises InvalidBSON, UnicodeDecodeError.

    Every document in it stays a document. The driver turns one with a `$ref` into a DBRef, and writes that with fields in another order, or that
    did not exist: a filter would then match other documents.
    """
    return {name: _plain(value) for name, value in RawBSONDocument(document, _SHOWN).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value


def value_end(data: bytes, kind: int, start: int) -> int:
    """Returns where the value of type `kind` that starts at `start` ends.

    Raises ValueError for a type byte that BSON does not have.
    """
    if kind in _FIXED:
        return start + _FIXED[kind]
    if kind in (STRING, 0x0D, 0x0E):  # string, code, symbol
        return start + 4 + int(_INT32.unpack_from(data, start)[0])
    if kind in (DOCUMENT, ARRAY, 0x0F):  # document, array, code with scope
        return start + int(_INT32.unpack_from(data, start)[0])
    if kind == BINARY:  # binary: length, subtype, bytes
        return start + 5 + int(_INT32.unpack_from(data, start)[0])
    if kind == REGEX:  # regular expression: two C strings
        return data.index(b"\0", data.index(b"\0", start) + 1) + 1
    if kind == DBPOINTER:  # DBPointer: string, 12 bytes
        return start + 16 + int(_INT32.unpack_from(data, start)[0])
    raise ValueError(f"BSON has no type 0x{kind:02x}")


class Key(NamedTuple):
    """One `_id`, as the bytes of the document `{"_id": value}`. Equal only when byte-equal."""

    raw: bytes

    @classmethod
    def of(cls, value: Any, options: CodecOptions[Any] = DOCUMENT_OPTIONS) -> "Key":
        return cls(bson.encode({"_id": value}, codec_options=options))

    @classmethod
    def of_document(cls, document: bytes) -> "Key":
        """Returns the key of a stored document: MongoDB keeps `_id` as its first field."""
        end = value_end(document, document[4], 9)
        if document[5:9] != b"_id\0":
            raise ValueError("the document does not start with _id")
        return cls(_INT32.pack(end + 1) + document[4:end] + b"\0")

    @classmethod
    def of_value(cls, kind: int, payload: bytes) -> "Key":
        """Returns the key of a raw value."""
        return cls(bytes(document([element(kind, b"_id", payload)]).raw))

    @property
    def kind(self) -> int:
        return self.raw[4]

    @property
    def payload(self) -> bytes:
        return self.raw[9:-1]

    @property
    def value(self) -> Any:
        """The `_id` as a Python value, for people; the bytes as text where it cannot be decoded."""
        try:
            return decoded(self.raw)["_id"]
        except (bson.errors.InvalidBSON, UnicodeDecodeError):
            return self.payload.decode("utf-8", "backslashreplace")

    @property
    def document(self) -> RawBSONDocument:
        """`{"_id": value}`, to be stored in the ledger."""
        return RawBSONDocument(self.raw)

    def literal(self) -> RawBSONDocument:
        """Returns `{"$literal": value}`, for an aggregation expression."""
        return document([element(self.kind, b"$literal", self.payload)])


def element(kind: int, name: bytes, payload: bytes) -> bytes:
    return bytes((kind,)) + name + b"\0" + payload


def document(elements: Iterable[bytes]) -> RawBSONDocument:
    """Returns a document of raw elements."""
    body = b"".join(elements)
    return RawBSONDocument(_INT32.pack(len(body) + 5) + body + b"\0")


def _array(items: Iterable[tuple[int, bytes]]) -> bytes:
    body = b"".join(
        [bytes((kind,)) + b"%d\0" % index + payload for index, (kind, payload) in enumerate(items)]
    )
    return _INT32.pack(len(body) + 5) + body + b"\0"


def literal_documents(documents: Iterable[bytes]) -> RawBSONDocument:
    """Returns `{"$literal": [document, ...]}`."""
    return document([element(ARRAY, b"$literal", _array((DOCUMENT, raw) for raw in documents))])


def literal_keys(keys: Iterable[Key]) -> RawBSONDocument:
    """Returns `{"$literal": [_id, ...]}`."""
    return document([element(ARRAY, b"$literal", _array((key.kind, key.payload) for key in keys))])


def keys_under(operator: str, keys: Iterable[Key]) -> RawBSONDocument:
    """Returns `{operator: [_id, ...]}`, such as `{"$in": [...]}` in a query.

    With `$in` also the first and the last key, where they are of one type: a clustered collection has no other bounds.
    """
    listed = list(keys)
    conditions = [element(ARRAY, operator.encode(), _array((key.kind, key.payload) for key in listed))]
    kinds = {key.kind for key in listed}
    if operator == "$in" and len(kinds) == 1 and kinds <= _ORDER.keys():
        order = _ORDER[listed[0].kind]
        first, last = (end(listed, key=lambda key: order(key.payload)) for end in (min, max))
        conditions += [element(first.kind, b"$gte", first.payload), element(last.kind, b"$lte", last.payload)]
    return document(conditions)


_ORDER: dict[int, Callable[[bytes], Any]] = {
    INT32: lambda payload: int.from_bytes(payload, "little", signed=True),
    INT64: lambda payload: int.from_bytes(payload, "little", signed=True),
    OBJECT_ID: lambda payload: payload,
    STRING: lambda payload: payload[4:-1],
}


def iterate_fields(raw: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    """Yields the top-level fields of a raw document in order: name, type, value."""
    position = 4
    while raw[position]:
        kind, name_end = raw[position], raw.index(b"\0", position + 1)
        end = value_end(raw, kind, name_end + 1)
        yield raw[position + 1 : name_end], kind, raw[name_end + 1 : end]
        position = end


def elements(raw: bytes) -> dict[bytes, tuple[int, bytes]]:
    """Returns the top-level fields of a raw document: name to type and value. Of a repeated name, the first."""
    return by_name(iterate_fields(raw))


def by_name(fields: Iterable[tuple[bytes, int, bytes]]) -> dict[bytes, tuple[int, bytes]]:
    """Returns fields as `iterate_fields` yields them: name to type and value. Of a repeated name, the first."""
    named: dict[bytes, tuple[int, bytes]] = {}
    for name, kind, payload in fields:
        if name not in named:
            named[name] = (kind, payload)
    return named


def repeated_fields(raw: bytes) -> frozenset[bytes]:
    """Returns the top-level field names that a document has more than once: BSON allows it, and some drivers wrote it."""
    counts = Counter(name for name, _, _ in iterate_fields(raw))
    return frozenset(name for name, count in counts.items() if count > 1)


def has_repeated_fields(raw: bytes, kind: int = DOCUMENT) -> bool:
    """Whether a document holds a field name twice, at any depth."""
    if kind == DOCUMENT and repeated_fields(raw):
        return True
    return any(
        has_repeated_fields(value, inner)
        for _, inner, value in iterate_fields(raw)
        if inner in (DOCUMENT, ARRAY)
    )


def spliced(raw: bytes, values: bytes, unset: Iterable[str]) -> RawBSONDocument:
    """Returns a document with new values of top-level fields, each in its old place or at the end, and without others.

    What is not named stays as it is, byte for byte.
    """
    new = elements(values)
    removed = {name.encode() for name in unset}
    spliced_elements = [
        element(*_named(name, new.pop(name, (kind, payload))))
        for name, kind, payload in iterate_fields(raw)
        if name not in removed
    ]
    return document([*spliced_elements, *(element(*_named(name, value)) for name, value in new.items())])


def _named(name: bytes, value: tuple[int, bytes]) -> tuple[int, bytes, bytes]:
    return value[0], name, value[1]


def split(batch: bytes) -> list[bytes]:
    """Returns the documents of a raw reply, one after the other."""
    documents, position = [], 0
    while position < len(batch):
        end = position + int(_INT32.unpack_from(batch, position)[0])
        documents.append(batch[position:end])
        position = end
    return documents


def text_at(document: bytes, path: Sequence[bytes]) -> str | None:
    """Returns the text at a path of a raw document, which need not be decodable."""
    kind, value = elements(document).get(path[0], (0, b""))
    if len(path) > 1:
        return text_at(value, path[1:]) if kind == DOCUMENT else None
    return value[4:-1].decode("utf-8", "replace") if kind == STRING else None
