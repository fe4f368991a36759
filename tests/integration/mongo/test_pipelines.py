"""An update by operators and the pipeline made of it do the same to every document, or both fail."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from bson import Decimal128, Int64
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, assume, given
from hypothesis import strategies as st
from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import WriteError

from tests.bson_values import (
    VALUES,
    array,
    decimal,
    documents,
    double,
    embedded,
    field,
    int32,
    int64,
    python_values,
    relaxed,
)
from tests.integration.guarded_writes import new_name
from whimbrel.domain.bson.raw_bson import RAW
from whimbrel.domain.migrations.pipelines import as_pipeline
from whimbrel.errors import Untranslatable

Data = Database[dict[str, Any]]
RELAXED = relaxed(40, HealthCheck.filter_too_much)


@pytest.fixture(scope="module")
def collection(client: MongoClient[dict[str, Any]]) -> Iterator[Collection[Any]]:
    database = client[new_name()]
    yield database.get_collection("things", codec_options=RAW)
    client.drop_database(database.name)


NUMBERS = st.one_of(
    st.integers(-(2**31), 2**31 - 1).map(int32),
    st.integers(-(2**63), 2**63 - 1).map(int64),
    st.floats().map(double),
    st.builds(decimal, st.integers(0, 10**15), st.integers(-20, 20)),
)
NAMES = st.sampled_from(["a", "b", "c", "10", "ü", "a.b", "$a", ""])
LEAVES = st.one_of(VALUES, NUMBERS, st.lists(VALUES, max_size=3).map(lambda found: array(*found)))


def _named(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[bytes]]:
    return st.dictionaries(NAMES, values, max_size=4).map(
        lambda found: [field(name, value) for name, value in found.items()]
    )


FIELDS = _named(
    st.one_of(
        LEAVES,
        _named(st.one_of(LEAVES, _named(LEAVES).map(lambda found: embedded(*found)))).map(
            lambda found: embedded(*found)
        ),
    )
)
TOPS = st.sampled_from(["a", "b", "c", "10", "ü", "new"])
PATHS = st.lists(st.sampled_from(["a", "b", "c", "ü", "new"]), min_size=1, max_size=3).map(".".join)
AMOUNTS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-5, 5), st.integers(-5, 5).map(Int64), st.floats(),
    st.builds(lambda digits, exponent: Decimal128(f"{digits}E{exponent}"), st.integers(-(10**15), 10**15), st.integers(-20, 20)),
)  # fmt: skip
MANY = st.lists(python_values(), max_size=3).map(lambda values: {"$each": values})


def _of(paths: st.SearchStrategy[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(paths, values, max_size=2)


OPERATORS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "$set": _of(PATHS, python_values()),
    "$setOnInsert": _of(PATHS, python_values()),
    "$unset": _of(PATHS, st.just("")),
    "$rename": _of(TOPS, TOPS),
    "$inc": _of(PATHS, AMOUNTS),
    "$mul": _of(PATHS, AMOUNTS),
    "$min": _of(PATHS, st.one_of(python_values(), AMOUNTS)),
    "$max": _of(PATHS, st.one_of(python_values(), AMOUNTS)),
    "$push": _of(PATHS, st.one_of(python_values(), MANY)),
    "$addToSet": _of(PATHS, st.one_of(python_values(), MANY)),
    "$pop": _of(PATHS, st.sampled_from([1, -1])),
}


def after(collection: Collection[Any], raw: bytes, update: Any) -> bytes | None:
    """The document after an update, None where it fails."""
    collection.delete_many({})
    collection.insert_one(RawBSONDocument(raw))
    try:
        collection.update_one({"_id": 1}, update)
    except WriteError:
        return None
    found: RawBSONDocument | None = collection.find_one({"_id": 1})
    assert found is not None
    return bytes(found.raw)


def same(collection: Collection[Any], fields: list[bytes], update: dict[str, Any]) -> None:
    raw = documents(int32(1), fields)
    wanted = after(collection, raw, update)
    try:
        pipeline = as_pipeline(update)
    except Untranslatable:
        assume(False)
    assert after(collection, raw, pipeline) == wanted


@pytest.mark.parametrize("operator", OPERATORS)
@RELAXED
@given(data=st.data(), fields=FIELDS)
def test_one_operator(
    collection: Collection[Any], operator: str, data: st.DataObject, fields: list[bytes]
) -> None:
    body = data.draw(OPERATORS[operator])
    same(collection, fields, {operator: body})


@RELAXED
@given(fields=FIELDS, update=st.fixed_dictionaries({}, optional=OPERATORS).filter(bool))
def test_several_operators_at_once(
    collection: Collection[Any], fields: list[bytes], update: dict[str, Any]
) -> None:
    same(collection, fields, update)


@RELAXED
@given(number=NUMBERS, amount=AMOUNTS, operator=st.sampled_from(["$inc", "$mul", "$min", "$max"]))
def test_arithmetic_of_all_types(
    collection: Collection[Any], number: tuple[int, bytes], amount: Any, operator: str
) -> None:
    same(collection, [field("n", number)], {operator: {"n": amount}})


def test_the_moment_is_the_servers(collection: Collection[Any]) -> None:
    before = documents(int32(1), [field("a", int32(5))])
    now = RawBSONDocument(
        after(collection, before, as_pipeline({"$currentDate": {"a": True, "b.c": {"$type": "date"}}})) or b""
    )
    assert isinstance(now["a"], datetime)
    assert now["b"]["c"] == now["a"]
    assert abs(now["a"].replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds() < 3600


def test_a_pipeline_stays_as_it_is() -> None:
    stages: list[dict[str, Any]] = [{"$set": {"a": "$b"}}, {"$unset": "b"}]
    assert as_pipeline(stages) == stages


def test_an_update_of_nothing_is_a_pipeline_too(collection: Collection[Any]) -> None:
    raw = documents(int32(1), [field("a", int32(5))])
    updates: list[dict[str, Any]] = [{"$set": {}}, {"$setOnInsert": {"a": 1}}]
    for update in updates:
        assert after(collection, raw, as_pipeline(update)) == raw


@pytest.mark.parametrize(
    ("operator", "body"),
    [
        ("$push", {"a": {"$each": [1], "$slice": 3}}),
        ("$push", {"a": {"$each": 1}}),
        ("$pull", {"a": 1}),
        ("$bit", {"a": {"and": 5}}),
        ("$currentDate", {"a": {"$type": "timestamp"}}),
        ("$set", {"a.0": 1}),
        ("$set", {"a.$[].b": 1}),
        ("$set", {"a..b": 1}),
        ("$set", {"$a": 1}),
        ("$set", {"a": 1, "a.b": 2}),
        ("$rename", {"a": "b.c"}),
        ("$rename", {"a": "b", "b": "c"}),
        ("$rename", {"a": 5}),
        ("$inc", {"a": True}),
        ("$inc", {"a": "1"}),
        ("$pop", {"a": 2}),
        ("$pop", {"a": True}),
    ],
    ids=str,
)
def test_what_has_no_exact_equivalent_is_refused_by_name(operator: str, body: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable, match="as a pipeline yourself, or as a function") as raised:
        as_pipeline({operator: body})
    assert raised.value.operator == operator
