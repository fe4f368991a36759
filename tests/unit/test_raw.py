"""Raw BSON: keys and fields as the bytes that MongoDB sent."""

import bson
import pytest
from bson.errors import BSONError
from hypothesis import given, settings

from tests.bson_values import (
    EACH_TYPE,
    FIELDS,
    VALUES,
    Value,
    array,
    documents,
    embedded,
    field,
    int32,
    string,
)
from whimbrel.domain.bson.raw_bson import (
    DOCUMENT_OPTIONS,
    Key,
    document,
    elements,
    has_repeated_fields,
    iterate_fields,
    keys_under,
    literal_documents,
    literal_keys,
    repeated_fields,
    spliced,
    split,
    value_end,
)


@pytest.mark.parametrize("name", EACH_TYPE)
def test_the_end_of_a_value_of_every_type_is_found(name: str) -> None:
    kind, payload = EACH_TYPE[name]
    assert value_end(payload + b"rest", kind, 0) == len(payload)


def test_a_type_that_bson_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="0x42"):
        value_end(b"", 0x42, 0)


@settings(max_examples=100)
@given(VALUES, FIELDS)
def test_a_documents_key_is_its_id_byte_for_byte(value: Value, fields: list[bytes]) -> None:
    key = Key.of_document(documents(value, fields))
    assert (key.kind, key.payload) == value
    assert key.raw == documents(value, [])


@settings(max_examples=100)
@given(FIELDS)
def test_fields_are_what_bson_decodes(fields: list[bytes]) -> None:
    raw = documents(int32(1), fields)
    decoded = bson.decode(raw, DOCUMENT_OPTIONS)
    assert [name.decode() for name, _, _ in iterate_fields(raw)] == list(decoded)
    for name, (kind, payload) in elements(raw).items():
        again = bson.decode(document([field(name.decode(), (kind, payload))]).raw, DOCUMENT_OPTIONS)
        assert bson.encode(again) == bson.encode({name.decode(): decoded[name.decode()]})


@settings(max_examples=50)
@given(FIELDS, FIELDS)
def test_a_reply_is_split_where_its_documents_end(one: list[bytes], other: list[bytes]) -> None:
    first, second = documents(int32(1), one), documents(int32(2), other)
    assert split(first + second) == [first, second]
    assert split(b"") == []


def test_keys_of_equal_numbers_of_other_types_are_not_equal() -> None:
    assert Key.of(5) != Key.of(5.0)
    assert Key.of({"a": 1, "b": 2}) != Key.of({"b": 2, "a": 1})


def test_a_document_that_does_not_start_with_its_id_has_no_key() -> None:
    with pytest.raises(ValueError, match="_id"):
        Key.of_document(embedded(field("abc", int32(1)), field("_id", int32(2)))[1])


def test_a_key_that_cannot_be_decoded_is_still_shown() -> None:
    raw = documents((0x02, b"\3\0\0\0\xff\xfe\0"), [])
    with pytest.raises(BSONError):
        bson.decode(raw)
    assert "\\xff\\xfe" in Key.of_document(raw).value


@settings(max_examples=50)
@given(VALUES)
def test_literals_carry_keys_and_documents_unchanged(value: Value) -> None:
    key = Key.of_document(documents(value, []))
    assert dict(elements(bytes(key.literal().raw))) == {b"$literal": value}
    assert elements(bytes(literal_keys([key, key]).raw))[b"$literal"] == array(value, value)
    assert elements(bytes(keys_under("$in", [key]).raw))[b"$in"] == array(value)
    assert elements(bytes(literal_documents([key.raw]).raw))[b"$literal"] == array((0x03, key.raw))


def test_names_that_a_document_has_twice_are_found_at_any_depth() -> None:
    twice = [field("a", int32(1)), field("a", int32(2))]
    assert repeated_fields(documents(int32(1), twice)) == {b"a"}
    assert repeated_fields(documents(int32(1), [field("n", embedded(*twice))])) == frozenset()
    assert has_repeated_fields(documents(int32(1), [field("n", array(int32(1), embedded(*twice)))]))
    assert not has_repeated_fields(documents(int32(1), [field("n", array(int32(1), int32(2)))]))


def test_a_spliced_document_keeps_the_bytes_and_the_place_of_what_is_not_named() -> None:
    odd = EACH_TYPE["undefined"]
    before = documents(
        int32(1), [field("a.b", int32(1)), field("u", odd), field("x", int32(3)), field("$c", int32(4))]
    )
    after = spliced(before, bson.encode({"$c": "new", "a.b": 5, "": 6}), ["x"])
    assert list(iterate_fields(bytes(after.raw))) == [
        (b"_id", *int32(1)),
        (b"a.b", *int32(5)),
        (b"u", *odd),
        (b"$c", *string("new")),
        (b"", *int32(6)),
    ]
