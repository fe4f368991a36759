"""What a function returned becomes the smallest change of its document, or a sentence for its author."""

import copy
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import SON, Int64

from tests.bson_values import EACH_TYPE, UNDEFINED, documents, embedded, field, int32, string
from whimbrel import SKIP, Migration
from whimbrel.domain.bson.raw_bson import iterate_fields
from whimbrel.domain.failures.failure import FailureKind
from whimbrel.domain.migrations.changes import Paths, Row, Single, Skipped, Unchanged
from whimbrel.domain.migrations.smallest_change import UnusableAnswer, Unwritable, smallest_change


def definition(**options: Any) -> Any:
    return Migration(name="m", collection="c", transform=lambda document: document, **options).definition


IT = definition()
BEFORE = {"_id": 1, "a": 1, "b": {"x": 1, "y": [1, {"z": 2}]}, "_whimbrel": {"other_v1": "r.1"}}
RAW = bson.encode(BEFORE)


def given() -> dict[str, Any]:
    """What the function gets: a copy, without the mark."""
    found = copy.deepcopy(BEFORE)
    del found["_whimbrel"]
    return found


def row(**values: Any) -> Row:
    return Row(bson.encode(values))


# returned: SKIP, a document, an update


def test_skip() -> None:
    assert smallest_change(IT, RAW, SKIP) == Skipped()


def test_a_document_returned_as_it_was_is_unchanged_and_its_mark_stays() -> None:
    assert smallest_change(IT, RAW, given()) == Unchanged()


def test_a_document_changed_in_place_is_reduced_to_its_changed_fields() -> None:
    document = given()
    document["b"]["y"][1]["z"] = 3
    document["c"] = None
    del document["a"]
    assert smallest_change(IT, RAW, document) == Row(
        bson.encode({"b": {"x": 1, "y": [1, {"z": 3}]}, "c": None}), unset=("a",)
    )


def test_the_mark_cannot_be_set_or_lost_through_a_returned_document() -> None:
    assert smallest_change(IT, RAW, given() | {"_whimbrel": "mine"}) == Unchanged()


@pytest.mark.parametrize("value", [True, 1.0, Int64(1), "1", None], ids=repr)
def test_a_value_of_another_type_is_a_change_although_python_finds_it_equal(value: Any) -> None:
    assert smallest_change(IT, RAW, {"$set": {"a": value}}) == row(a=value)
    assert smallest_change(IT, RAW, given() | {"a": value}) == row(a=value)


def test_another_order_of_fields_is_a_change() -> None:
    assert smallest_change(IT, RAW, {"$set": {"b": {"y": [1, {"z": 2}], "x": 1}}}) == row(
        b={"y": [1, {"z": 2}], "x": 1}
    )


def test_a_value_that_is_stored_as_what_is_there_is_unchanged() -> None:
    now = datetime(2020, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)
    raw = bson.encode({"_id": 1, "at": now, "nan": float("nan")})
    assert (
        smallest_change(IT, raw, {"$set": {"at": now.replace(microsecond=123_456), "nan": float("nan")}})
        == Unchanged()
    )


@pytest.mark.parametrize(
    "update",
    [{"$set": {"a": 1}}, {"$unset": {"zz": ""}}, {"$set": {}}, {"$set": {"b.x": 1}, "$unset": {"b.q.r": ""}}],
)
def test_an_update_that_changes_nothing_is_unchanged(update: dict[str, Any]) -> None:
    assert smallest_change(IT, RAW, update) == Unchanged()


def test_nested_paths_become_their_top_level_fields() -> None:
    update = {"$set": {"b.x": 2, "n.e.w": 3}, "$unset": {"b.y": ""}}
    assert smallest_change(IT, RAW, update) == row(b={"x": 2}, n={"e": {"w": 3}})


def test_nested_paths_beside_declared_reads_are_written_alone() -> None:
    it = definition(reads=["a"])
    found = smallest_change(it, RAW, {"$set": {"b.x": 2}, "$unset": {"b.y": ""}})
    assert found == Paths({"b.x": 2}, ("b.y",))
    assert isinstance(found, Paths)
    assert found.parents == ("b",)


def test_nested_paths_within_declared_reads_are_written_with_their_field() -> None:
    assert smallest_change(definition(reads=["b"]), RAW, {"$set": {"b.x": 2}}) == row(
        b={"x": 2, "y": [1, {"z": 2}]}
    )


def test_nested_paths_without_their_parents_are_left_to_mongodb_beside_declared_reads() -> None:
    assert smallest_change(definition(reads=["a"]), RAW, {"$set": {"n.e": 2}}) == Single({"$set": {"n.e": 2}})


@pytest.mark.parametrize(
    "update",
    [
        {"$inc": {"a": 1}},
        {"$push": {"b.y": 1}},
        {"$rename": {"a": "z"}},
        {"$set": {"b.y.0": 5}},
        {"$set": {"b.y.1.z": 5}},
        {"$set": {"a.x": 5}},
        {"$set": {"b": 1, "b.x": 2}},
        {"$set": {"b.$[].x": 2}},
        {"$set": {"": 2}},
        {"$set": {"a": 2}, "$inc": {"c": 1}},
    ],
    ids=str,
)
def test_what_only_mongodb_can_carry_out_is_left_to_it(update: dict[str, Any]) -> None:
    assert smallest_change(IT, RAW, update) == Single(update)


def test_a_pipeline_is_left_to_mongodb() -> None:
    stages = [{"$set": {"c": {"$add": ["$a", 1]}}}]
    assert smallest_change(IT, RAW, stages) == Single(stages)


# documents that Python's types do not bring back, and names that no path can express


@pytest.mark.parametrize("name", ["x.y", "$x", ""])
def test_h33_a_field_whose_name_no_path_can_express_is_replaced_with_its_document(name: str) -> None:
    raw = documents(int32(1), [field(name, int32(1)), field("u", UNDEFINED), field("b", int32(2))])
    found = smallest_change(IT, raw, {"_id": 1, name: 5, "u": None, "b": 2})
    assert isinstance(found, Single)
    assert found.whole  # whatever the migration declares to read
    after = found.update[0]["$replaceWith"]["$literal"]  # type: ignore[index]
    assert list(iterate_fields(after.raw))[1:] == [
        (name.encode(), *int32(5)),
        (b"u", *UNDEFINED),
        (b"b", *int32(2)),
    ]


def test_values_that_python_cannot_bring_back_are_not_in_the_change() -> None:
    fields = [field(name, value) for name, value in EACH_TYPE.items()]
    raw = documents(int32(1), fields)
    assert smallest_change(IT, raw, bson.decode(raw)) == Unchanged()
    assert smallest_change(IT, raw, {"$set": {"new": 1}}) == Single({"$set": {"new": 1}})


TWICE = documents(
    int32(1),
    [
        field("a", int32(1)),
        field("a", int32(2)),
        field("b", int32(3)),
        field("n", embedded(field("x", int32(1)))),
    ],
)


def test_beside_a_field_that_is_there_twice_an_update_is_left_to_mongodb() -> None:
    assert smallest_change(IT, TWICE, {"$set": {"b": 4}, "$unset": {"n": ""}}) == Single(
        {"$set": {"b": 4}, "$unset": {"n": ""}}
    )
    assert smallest_change(IT, TWICE, {"_id": 1, "a": 2, "b": 4, "n": {"x": 1}}) == Single({"$set": {"b": 4}})


@pytest.mark.parametrize(
    "returned", [{"$set": {"a": 3}}, {"$unset": {"a": ""}}, {"_id": 1, "b": 3}, [{"$set": {"b": 1}}]], ids=str
)
def test_a_field_that_is_there_twice_is_never_changed(returned: Any) -> None:
    with pytest.raises(Unwritable, match="Repair the document first") as found:
        smallest_change(IT, TWICE, returned)
    assert found.value.kind is FailureKind.DATA


def test_a_status_that_is_there_twice_is_never_marked() -> None:
    raw = documents(int32(1), [field("status", string("pending")), field("status", string("pending"))])
    for returned in (SKIP, {"_id": 1, "status": "pending"}, {"$set": {"b": 1}}):
        with pytest.raises(Unwritable, match="'status' more than once"):
            smallest_change(definition(mark="status"), raw, returned)


# rubbish


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (None, "The function returned None: return an update, the changed document, or SKIP."),
        (5, r"returned int \(5\)"),
        ("text", r"returned str \('text'\)"),
        ([], r"returned list \(\[\]\)"),
        ([1], r"returned list \(\[1\]\)"),
        ((1,), r"returned tuple"),
        (True, r"returned bool \(True\)"),
        ({}, "without the _id"),
        ({"a": 1}, "without the _id of the one it was given. Return an update such as"),
        ({"_id": 2, "a": 1}, "without the _id"),
        ({"_id": 1.0, "a": 1}, "without the _id"),
        ({"_id": 1, "$set": {"a": 1}, 5: 1}, "the field name 5: names of fields are text"),
        ({"_id": 1, 5: 1}, "the field name 5: names of fields are text"),
        ({"_id": 1, "a": {5: 1}}, "cannot store"),
        ({"$set": {5: 1}}, "cannot store"),
        ({"$unset": {5: 1}}, "cannot store"),
        ([{"$set": {5: 1}}], "cannot store"),
        ({"_id": 1, "a": {1, 2}}, "cannot store: .*cannot encode object: {1, 2}"),
        ({"$set": {"a": {1, 2}}}, "cannot store"),
        ({"$set": {"a": 2**63}}, "cannot store"),
        ([{"$set": {"a": {1, 2}}}], "cannot store"),
        ({"$set": 5}, r"\$set takes a document such as"),
        ({"$set": {"_id": 5}}, "the _id of a document cannot be changed"),
        ({"$rename": {"a": "_id.x"}}, "the _id of a document cannot be changed"),
        ({"$set": {"_whimbrel.m_v1": "mine"}}, "which Whimbrel writes itself"),
        ({"$unset": {"_whimbrel": ""}}, "which Whimbrel writes itself"),
        ([{"$unset": "_whimbrel"}], "which Whimbrel writes itself"),
        ([{"$match": {}}], "is not a stage of an update pipeline"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_rubbish_is_told_to_the_author_in_a_sentence(returned: Any, sentence: str) -> None:
    with pytest.raises(UnusableAnswer, match=sentence) as found:
        smallest_change(IT, RAW, returned)
    assert found.value.kind is FailureKind.CODE


def test_a_value_nested_without_end_is_rubbish() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    with pytest.raises(UnusableAnswer, match="cannot store"):
        smallest_change(IT, RAW, {"$set": {"a": endless}})


@pytest.mark.parametrize(
    "change",
    [
        {"$set": {"status": "done"}},
        {"$unset": {"processedBy": ""}},
        {"$set": {"status.x": 1}},
        {"$rename": {"a": "status"}},
    ],
    ids=str,
)
def test_the_status_is_whimbrels_where_it_is_the_mark(change: dict[str, Any]) -> None:
    raw = bson.encode({"_id": 1, "status": "pending", "a": 1})
    with pytest.raises(UnusableAnswer, match="which Whimbrel writes itself"):
        smallest_change(definition(mark="status"), raw, change)


def test_the_status_is_whimbrels_in_a_returned_document_too() -> None:
    raw = bson.encode({"_id": 1, "status": "pending"})
    for returned in (
        {"_id": 1, "status": "done"},
        {"_id": 1},
        {"_id": 1, "status": "pending", "processedBy": "me"},
    ):
        with pytest.raises(UnusableAnswer, match="which Whimbrel writes itself"):
            smallest_change(definition(mark="status"), raw, returned)
    assert smallest_change(definition(mark="status"), raw, {"_id": 1, "status": "pending", "n": 1}) == row(
        n=1
    )


def test_any_mapping_will_do() -> None:
    assert smallest_change(IT, RAW, SON([("$set", SON([("z", 1)]))])) == row(z=1)


@pytest.mark.parametrize(
    ("reads", "update", "inner"),
    [
        (None, {"$inc": {"a": 1}}, "$inc"),
        (None, {"$push": {"b.y": {"$each": [1]}}}, "$push"),
        (["a"], {"$set": {"b.x": {"deep": [1]}}}, "$set"),
    ],
)
def test_a_change_is_what_was_returned_though_the_function_goes_on_with_the_same_object(
    reads: list[str] | None, update: dict[str, Any], inner: str
) -> None:
    expected = copy.deepcopy(update)
    found = smallest_change(definition(reads=reads), RAW, update)
    name = next(iter(update[inner]))
    for each in (update[inner][name], update[inner]):
        if isinstance(each, dict):
            each.clear()
    update[inner][name] = "another"
    assert isinstance(found, Single | Paths)
    assert (found.update if isinstance(found, Single) else {"$set": found.values}) == expected
