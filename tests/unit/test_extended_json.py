"""Extended JSON, read: each type by a table made by hand, and what is refused, with its place."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp, json_util
from bson.datetime_ms import DatetimeMS
from hypothesis import given

from tests.bson_values import python_values
from tests.names import named
from whimbrel.domain.bson.document_ids import parse_id
from whimbrel.domain.bson.extended_json import Unreadable, parse, parse_canonical, read
from whimbrel.domain.bson.raw_bson import Key

OID = "507f1f77bcf86cd799439011"
UUID = "00112233-4455-6677-8899-aabbccddeeff"
MOMENT = datetime(2020, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)

VALUES: dict[str, Any] = {
    "1": 1, "-2147483649": -2147483649, "9223372036854775807": 2**63 - 1, "-9223372036854775808": -(2**63), "1.0": 1.0, "1e3": 1000.0, "0.1": 0.1,
    "true": True, "null": None, '"a"': "a", '"\\u0024a\\ud83d\\ude00"': "$a\U0001f600", "[1, [2.5]]": [1, [2.5]], '{"b": {}}': {"b": {}},
    f'{{"$oid": "{OID}"}}': ObjectId(OID), '{"$numberInt": "-5"}': -5, '{"$numberLong": "5"}': Int64(5), '{"$numberLong": "9007199254740993"}': Int64(2**53 + 1),
    '{"$numberDouble": "5"}': 5.0, '{"$numberDouble": "-Infinity"}': -math.inf, '{"$numberDecimal": "1.50"}': Decimal128("1.50"),
    '{"$numberDecimal": "Infinity"}': Decimal128("Infinity"), f'{{"$uuid": "{UUID}"}}': Binary(bytes.fromhex(UUID.replace("-", "")), 4),
    '{"$binary": {"subType": "80", "base64": "AQI="}}': Binary(b"\1\2", 128), '{"$binary": {"base64": "", "subType": "0"}}': b"",
    '{"$date": "2020-01-02T03:04:05.678Z"}': MOMENT, '{"$date": "2020-01-02T03:04:05.6789Z"}': MOMENT, '{"$date": "2020-01-02T05:04:05.678+02:00"}': MOMENT,
    '{"$date": "2020-01-02T01:34:05.678-0130"}': MOMENT, '{"$date": {"$numberLong": "1577934245678"}}': MOMENT, '{"$date": 1577934245678}': MOMENT,
    '{"$date": "2020-01-02"}': datetime(2020, 1, 2, tzinfo=UTC), '{"$date": "1969-12-31T23:59Z"}': DatetimeMS(-60_000), '{"$date": "1969-12-31T23:59:59.9Z"}': DatetimeMS(-100),
    '{"$date": {"$numberLong": "400000000000000"}}': DatetimeMS(400_000_000_000_000), '{"$timestamp": {"t": 4294967295, "i": 0}}': Timestamp(2**32 - 1, 0),
    '{"$regularExpression": {"pattern": "^a", "options": "xi"}}': Regex("^a", "ix"), '{"$code": "f"}': Code("f"),
    f'{{"$code": "f", "$scope": {{"o": {{"$oid": "{OID}"}}}}}}': Code("f", {"o": ObjectId(OID)}), '{"$minKey": 1}': MinKey(), '{"$maxKey": 1}': MaxKey(),
    # no values: operators and fields
    '{"$regex": "x"}': {"$regex": "x"}, '{"$options": "i", "$regex": "x"}': {"$options": "i", "$regex": "x"}, '{"$type": "date"}': {"$type": "date"},
    '{"$regex": {"$regularExpression": {"pattern": "x", "options": ""}}, "$options": "i"}': {"$regex": Regex("x"), "$options": "i"},
    '{"$not": {"$regex": "x", "$ne": "xx"}}': {"$not": {"$regex": "x", "$ne": "xx"}}, '{"$elemMatch": {"$regex": "x"}}': {"$elemMatch": {"$regex": "x"}},
    f'{{"$id": {{"$oid": "{OID}"}}, "$ref": "c"}}': {"$id": ObjectId(OID), "$ref": "c"}, '{"$ref": "c"}': {"$ref": "c"}, '{"$db": "d", "$ref": "c"}': {"$db": "d", "$ref": "c"},
    '{"$scope": {}}': {"$scope": {}}, '{"$in": [{"$ref": "c", "$id": 1}]}': {"$in": [{"$ref": "c", "$id": 1}]}, '{"$gt": {"$date": 0}}': {"$gt": datetime(1970, 1, 1, tzinfo=UTC)},
}  # fmt: skip

REFUSED: dict[str, str] = {
    # beside the name of a type
    f'{{"$oid": "{OID}", "x": 1}}': "$oid makes a value of its object, so 'x' cannot stand beside it",
    f'{{"$gt": 1, "$oid": "{OID}"}}': "so '$gt' cannot stand beside it", '{"$date": "2020-01-02", "$gt": 5}': "so '$gt' cannot", '{"$numberLong": "5", "$ne": 6}': "so '$ne' cannot",
    '{"$regularExpression": {"pattern": "x", "options": ""}, "$nin": ["x"]}': "so '$nin' cannot stand beside it. Operators go with $regex",
    '{"$minKey": 1, "$maxKey": 1}': "so '$maxKey' cannot", '{"$code": "f", "$scope": {}, "x": 1}': "so 'x' cannot", '{"$oid": "x", "$ref": "c", "$id": 1}': "so '$ref' cannot",
    '{"$binary": "AAEC", "$type": "00"}': "so '$type' cannot", '{"$uuid": "x", "$in": []}': "so '$in' cannot", '{"$timestamp": {"t": 1, "i": 1}, "$gt": 1}': "so '$gt' cannot",
    # malformed
    '{"$oid": "xyz"}': "$oid needs 24 hexadecimal digits, not 'xyz'", f'{{"$oid": "{OID}0"}}': "$oid needs", '{"$oid": 5}': "$oid needs", '{"$oid": null}': "$oid needs",
    '{"$uuid": "00112233"}': "$uuid needs a UUID", f'{{"$uuid": "{{{UUID}}}"}}': "$uuid needs", '{"$numberInt": "2147483648"}': "$numberInt cannot hold 2147483648",
    '{"$numberInt": 5}': "$numberInt needs a text of digits", '{"$numberLong": "9223372036854775808"}': "$numberLong cannot hold", '{"$numberLong": "1_000"}': "$numberLong needs",
    '{"$numberLong": " 5"}': "$numberLong needs", '{"$numberLong": "5.0"}': "$numberLong needs", '{"$numberLong": "\u0665"}': "$numberLong needs", '{"$numberLong": [5]}': "$numberLong needs",
    '{"$numberDouble": "1e999"}': "$numberDouble cannot hold", '{"$numberDouble": "inf"}': "$numberDouble needs", '{"$numberDouble": 5}': "$numberDouble needs",
    '{"$numberDecimal": "1234567890123456789012345678901234567.8"}': "$numberDecimal holds 34 digits", '{"$numberDecimal": "1e9999"}': "not 1e9999 exactly", '{"$numberDecimal": "x"}': "$numberDecimal needs",
    '{"$date": "yesterday"}': "$date needs a time with its zone", '{"$date": "2020-01-02T03:04:05"}': "$date needs a time with its zone", '{"$date": "2020-02-30"}': "$date needs", '{"$date": 1.5}': "$date needs",
    '{"$date": true}': "$date needs", '{"$date": "2020-01-02T25:00:00Z"}': "$date needs", '{"$date": {"$numberLong": "x"}}': "$numberLong needs a text of digits, not 'x', at 'a.b[1].$date'",
    '{"$binary": {"base64": "AA", "subType": "00"}}': "$binary needs base64", '{"$binary": {"base64": "AA==", "subType": "100"}}': "$binary needs a subType", '{"$binary": {"base64": "AA=="}}': "$binary needs",
    '{"$binary": {"base64": "A A=", "subType": "00"}}': "$binary needs base64", '{"$binary": {"base64": "AA==", "subType": "00", "x": 1}}': "$binary needs",
    '{"$timestamp": {"t": 1}}': "$timestamp needs", '{"$timestamp": {"t": 1, "i": 4294967296}}': "$timestamp needs", '{"$timestamp": {"t": -1, "i": 1}}': "$timestamp needs", '{"$timestamp": 5}': "$timestamp needs",
    '{"$regularExpression": {"pattern": "x"}}': "$regularExpression needs", '{"$regularExpression": {"pattern": "x", "options": "g"}}': "$regularExpression needs",
    '{"$regularExpression": {"pattern": "a\\u0000b", "options": ""}}': "without NUL", '{"$regularExpression": "x"}': "$regularExpression needs", '{"$minKey": true}': "$minKey needs 1", '{"$maxKey": 2}': "$maxKey needs 1",
    '{"$code": 5}': "$code needs a text", '{"$code": "f", "$scope": 5}': "$code needs a document as its $scope", '{"$undefined": true}': "MongoDB has given up. Write null",
    '{"$symbol": "s"}': "MongoDB has given up. Write a text", '{"$dbPointer": {"$ref": "c", "$id": 1}}': 'Write {"$ref": ..., "$id": ...}',
    # where MongoDB takes no operator
    '{"$in": [1, {"$regex": "x", "$options": "i"}]}': 'write {"$regularExpression": {"pattern": ..., "options": ...}}, at \'a.b[1].$in[1]\'', '{"$nin": [{"$regex": "x"}]}': "$regex is an operator",
    # no JSON, or JSON that says two things
    "NaN": "NaN is no number of JSON", "-Infinity": "-Infinity is no number of JSON", "1e400": "beyond a double", "9223372036854775808": "a whole number of more than 64 bits",
    "9" * 5000: "a whole number of more than 64 bits", '"\\ud800"': "half a surrogate pair", '{"\\udfff": 1}': "half a surrogate pair", '{"x": {"y": 1, "y": 2}}': "the field 'y' twice in one document, at 'a.b[1].x'",
    '{"$gt": 1, "\\u0024gt": 2}': "the field '$gt' twice", '{"$binary": {"base64": "AA==", "base64": "AQ==", "subType": "00"}}': "the field 'base64' twice",
    f'{{"$oid": "x", "$oid": "{OID}"}}': "the field '$oid' twice", "[" * 200 + "]" * 200: "deeper than 100 levels",
}  # fmt: skip


def encoded(value: Any) -> bytes:
    return bson.encode({"v": value})


@pytest.mark.parametrize("text", VALUES, ids=lambda text: named(text)[:60])
def test_a_value_is_what_it_says(text: str) -> None:
    expected = encoded(VALUES[text])
    assert encoded(parse(text)) == expected
    assert encoded(read(json.loads(text))) == expected
    nested = parse(f'{{"a": {{"b": [0, {text}]}}}}')
    assert encoded(nested["a"]["b"][1]) == expected


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: named(text)[:60])
def test_what_would_lose_something_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(Unreadable) as refused:
        parse(f'{{"a": {{"b": [0, {text}]}}}}')
    assert REFUSED[text] in str(refused.value)
    assert refused.value.place.startswith("a.b[1]")


@pytest.mark.parametrize(
    "text", [each for each in REFUSED if "twice" not in REFUSED[each] and len(each) < 1000]
)
def test_the_same_is_refused_of_what_was_read_as_plain_json(text: str) -> None:
    with pytest.raises(Unreadable):
        read({"a": json.loads(text)})


@given(python_values())
def test_what_the_driver_writes_is_read_back(value: Any) -> None:
    """Where no document looks as a type does: the names of `python_values` are none of types."""
    for options in (json_util.CANONICAL_JSON_OPTIONS, json_util.RELAXED_JSON_OPTIONS):
        read_back = parse(json_util.dumps(value, json_options=options))
        again = json_util.dumps(bson.decode(encoded(read_back))["v"], json_options=options)
        assert again == json_util.dumps(bson.decode(encoded(value))["v"], json_options=options)
    canonical = json_util.dumps(value, json_options=json_util.CANONICAL_JSON_OPTIONS)
    assert encoded(parse(canonical)) == encoded(parse_canonical(canonical))


@pytest.mark.parametrize(
    "document",
    [
        {"$regex": "x", "$nin": ["y"]}, {"$regex": "x"}, {"$ref": "c", "$id": 1}, {"$id": 1, "$ref": "c"}, {"$oid": "no id"}, {"$date": "?", "x": 1}, {"$code": "f", "$scope": "g"},
        {"$in": [{"$regex": "x"}]}, {"$undefined": True}, {"$minKey": 5.5},
    ],
)  # fmt: skip
def test_a_row_of_an_earlier_version_is_read_whatever_a_document_looks_like(document: Any) -> None:
    """What the driver wrote as no type is none."""
    text = json_util.dumps({"a": document}, json_options=json_util.CANONICAL_JSON_OPTIONS)
    assert encoded(parse_canonical(text)) == encoded({"a": document})


@pytest.mark.parametrize(
    "value", [{"$oid": OID, "x": 1}, {"$date": "x"}, float("nan"), 2**64, {"$numberLong": "5", "$gt": 1}]
)
def test_an_id_is_refused_as_a_filter_is(value: Any) -> None:
    with pytest.raises(ValueError, match="no Extended JSON"):
        parse_id(value)


def test_an_id_that_looks_like_a_reference_stays_as_it_is() -> None:
    for document in ({"$id": 1, "$ref": "c"}, {"$ref": "c"}, {"$ref": "c", "x": 1, "$id": 2}):
        assert parse_id(document) == Key(bson.encode({"_id": document}))


def test_a_place_is_short_however_long_the_names_are() -> None:
    text = f'{{"{"k" * 100_000}": {{"{"l" * 100_000}": [{"1, " * 1000}NaN]}}}}'
    with pytest.raises(Unreadable) as refused:
        parse(text)
    assert len(str(refused.value)) < 1000
