"""Before-images: what a statement keeps beside the mark brings the document back byte for byte."""

import contextlib
from collections.abc import Iterator
from typing import Any

import bson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymongo.errors import OperationFailure

from tests.bson_values import FIELDS, NAMES, documents, field, int32, python_values, relaxed, string, updates
from tests.integration.guarded_writes import Client, Hand, new_name
from tests.names import named
from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS, Key
from whimbrel.domain.migrations.before_images import (
    ChangedSince,
    UndoStages,
    Unreadable,
    image_field,
    restored_document,
)
from whimbrel.domain.migrations.changes import Whole
from whimbrel.domain.migrations.smallest_change import UnusableAnswer, smallest_change
from whimbrel.mongo.before_images import NEVER_MISSING
from whimbrel.ports import GuardedChange

RELAXED = relaxed(40)
UPDATES = updates(["a", "b", "c", "0", "ü", "new"], nested_renames=False)
PIPELINES = st.lists(
    st.sampled_from(
        [
            {"$set": {"a": {"$literal": 5}, "new": "$b"}},
            {"$set": {"b": "$missing"}},
            {"$set": {"b": {"$cond": [False, 1, "$missing"]}}},
            {
                "$set": {
                    "a": {"$add": ["$missing", 1]},
                    "c": {"$mergeObjects": ["$missing", {"x": 1}]},
                    "new": "$$NOW",
                }
            },
            {"$set": {"c": {"$concat": ["a", "$missing"]}, "b": [1], "a": {"plain": True}}},
            {"$set": {"a": {"$map": {"input": "$missing", "in": 1}}, "b": {"$toInt": "$missing"}}},
            {"$unset": ["a", "c"]},
            {"$project": {"a": 0}},
            {"$project": {"b": 1, "c": 1}},
            {"$replaceWith": {"_id": "$_id", "a": "$b"}},
            {"$replaceRoot": {"newRoot": {"$mergeObjects": [{"first": 1}, "$$ROOT"]}}},
        ]
    ),
    min_size=1,
    max_size=3,
)
MODES = [pytest.param(False, id="fields"), pytest.param(True, id="document")]


def undo(hand: Hand, *, whole: bool, run: str = "run") -> UndoStages:
    return UndoStages(image_field(hand.migration.name, hand.migration.version), run, whole=whole)


def back(hand: Hand, key: Any = 1) -> bytes:
    return restored_document(hand.stored(Key.of(key)), hand.migration.name, hand.migration.version)


@pytest.fixture(scope="module", params=["marker", "status", "reads"])
def hand(client: Client, request: pytest.FixtureRequest) -> Iterator[Hand]:
    """One for each way to mark and to guard."""
    database = client[new_name()]
    options: dict[str, Any] = {"reads": ["a"]} if request.param == "reads" else {"mark": request.param}
    yield Hand(database, undo=True, **options)
    client.drop_database(database.name)


def afresh(hand: Hand, fields: list[bytes]) -> bytes:
    hand.raw.delete_many({})
    status = [field("status", string("pending"))] if hand.migration.mark == "status" else []
    return hand.insert(documents(int32(1), [*fields, *status]))[0]


@pytest.mark.parametrize("whole", MODES)
@RELAXED
@given(fields=FIELDS, update=UPDATES | PIPELINES)
def test_a_change_is_taken_back(hand: Hand, whole: bool, fields: list[bytes], update: Any) -> None:
    read = afresh(hand, fields)
    try:
        written = hand.returned([read], update, undo=undo(hand, whole=whole))
    except UnusableAnswer:  # an update that no pipeline expresses is refused before anything is written
        return
    if written.refused:
        assert hand.stored(Key.of(1)) == read
        return
    assert written.applied == 1
    assert back(hand) == read


@pytest.mark.parametrize("whole", MODES)
@RELAXED
@given(
    fields=FIELDS,
    values=st.dictionaries(NAMES, python_values(), max_size=3),
    gone=st.lists(NAMES, max_size=2),
)
def test_a_returned_document_is_taken_back(
    hand: Hand, whole: bool, fields: list[bytes], values: dict[str, Any], gone: list[str]
) -> None:
    read = afresh(hand, fields)
    returned = bson.decode(read, DOCUMENT_OPTIONS) | values
    returned = {name: value for name, value in returned.items() if name not in gone}
    written = hand.returned([read], returned, undo=undo(hand, whole=whole))
    assert (written.applied, written.refused) == (1, ())
    assert back(hand) == read


@RELAXED
@given(fields=st.lists(FIELDS, min_size=2, max_size=2).map(lambda pair: pair[0] + pair[1]), update=UPDATES)
def test_a_document_with_a_name_twice_is_taken_back_or_refused(
    hand: Hand, fields: list[bytes], update: Any
) -> None:
    read = afresh(hand, fields)
    try:
        change = smallest_change(hand.migration, read, update)
    except UnusableAnswer:
        return
    written = hand.write([(read, change)], undo=undo(hand, whole=False))
    if written.applied:
        assert back(hand) == read
    else:
        assert hand.stored(Key.of(1)) == read


@pytest.mark.parametrize(
    "update", [{"$set": {"a.b": 1}, "$inc": {"n": 2}}, [{"$unset": "a"}]], ids=["operators", "pipeline"]
)
def test_a_declarative_change_is_taken_back(hand: Hand, update: Any) -> None:
    read = afresh(
        hand, [field("a", (0x03, bson.encode({"c": 5}))), field("n", int32(1)), field("z", int32(9))]
    )
    written = hand.documents.update_keys(
        [Key.of(1)], update, hand.terms(undo=undo(hand, whole=False)), group=1
    )
    assert written.applied == 1
    assert back(hand) == read


def changed(hand: Hand, *, whole: bool = False) -> bytes:
    """A document after its field `a` was set from 1 to 2."""
    read = afresh(hand, [field("a", int32(1)), field("b", int32(1))])
    assert hand.returned([read], {"$set": {"a": 2}}, undo=undo(hand, whole=whole)).applied == 1
    return read


def test_what_the_application_wrote_into_the_field_since_is_a_conflict(hand: Hand) -> None:
    changed(hand)
    hand.collection.update_one({}, {"$set": {"a": 3}})
    with pytest.raises(ChangedSince) as error:
        back(hand)
    assert error.value.fields == ("a",)


def test_the_same_value_in_another_type_is_a_conflict(hand: Hand) -> None:
    changed(hand)
    hand.collection.update_one({}, {"$set": {"a": 2.0}})
    with pytest.raises(ChangedSince):
        back(hand)


def test_what_it_wrote_beside_stays(hand: Hand) -> None:
    changed(hand)
    hand.collection.update_one({}, {"$set": {"b": 7, "note": "new"}})
    found = bson.decode(back(hand))
    assert (found["a"], found["b"], found["note"]) == (1, 7, "new")
    assert "_whimbrel" not in found


def test_with_whole_documents_that_is_a_conflict_too(hand: Hand) -> None:
    changed(hand, whole=True)
    hand.collection.update_one({}, {"$set": {"b": 7, "note": "new"}})
    with pytest.raises(ChangedSince) as error:
        back(hand)
    assert error.value.fields == ("b", "note")


def test_marks_of_other_migrations_stay(hand: Hand) -> None:
    changed(hand)
    hand.collection.update_one({}, {"$set": {"_whimbrel.other_v1": "run.9"}})
    assert bson.decode(back(hand))["_whimbrel"] == {"other_v1": "run.9"}


@pytest.mark.parametrize("junk", [None, "x", {}, {"token": "run.1"}, {"token": []}], ids=named)
def test_rubbish_in_the_place_of_the_image_is_no_image(hand: Hand, junk: Any) -> None:
    changed(hand)
    hand.collection.update_one({}, {"$set": {f"_whimbrel.{undo(hand, whole=False).field}": junk}})
    with pytest.raises(Unreadable):
        back(hand)


@pytest.fixture
def status_hand(database: Any) -> Hand:
    return Hand(database, undo=True, mark="status")


def fail(hand: Hand, batch: str, *, whole: bool = False) -> None:
    terms = hand.terms(undo=undo(hand, whole=whole, run=batch.partition(".")[0]), token=batch)
    hand.documents.mark_failed([Key.of(1)], {"status": "failed", "processedBy": f"{batch}/f"}, terms)


def succeed(hand: Hand, batch: str, *, whole: bool = False) -> None:
    terms = {"undo": undo(hand, whole=whole, run=batch.partition(".")[0]), "token": batch}
    update = {"$set": {"a": 2}, "$unset": {"b": ""}}
    assert hand.returned([hand.stored(Key.of(1))], update, **terms).applied == 1


@pytest.mark.parametrize("whole", MODES)
def test_a_document_that_failed_first_becomes_what_it_was_before_that(status_hand: Hand, whole: bool) -> None:
    hand = status_hand
    read = afresh(hand, [field("a", int32(1)), field("b", int32(1))])
    fail(hand, "run.1", whole=whole)
    assert hand.collection.find_one({"status": "failed", "processedBy": "run.1/f"})
    assert back(hand) == read
    succeed(hand, "run.2", whole=whole)
    assert back(hand) == read


def test_a_run_is_taken_back_to_what_another_had_left(status_hand: Hand) -> None:
    """And then that one, from its own image."""
    hand = status_hand
    read = afresh(hand, [field("a", int32(1)), field("b", int32(1))])
    fail(hand, "old.1")
    left = hand.stored(Key.of(1))
    succeed(hand, "new.1")
    assert back(hand) == left
    hand.replace(back(hand))
    assert back(hand) == read


@pytest.mark.parametrize("whole", MODES)
@pytest.mark.parametrize("write", [{"status": "pending"}, {"a": 5}], ids=["status", "field"])
def test_what_the_application_wrote_between_failure_and_success_is_not_undone(
    status_hand: Hand, whole: bool, write: dict[str, Any]
) -> None:
    hand = status_hand
    afresh(hand, [field("a", int32(1)), field("b", int32(1))])
    fail(hand, "run.1", whole=whole)
    hand.collection.update_one({}, {"$set": write})
    succeed(hand, "run.2", whole=whole)
    found = bson.decode(back(hand))
    assert found | write == found
    assert "_whimbrel" not in found


def test_many_documents_of_many_shapes_travel_together(hand: Hand) -> None:
    hand.raw.delete_many({})
    status = [field("status", string("pending"))] if hand.migration.mark == "status" else []
    reads = hand.insert(
        *(documents(int32(n), [field("a", int32(n)), field("b", string("x")), *status]) for n in range(30))
    )
    updates = [
        {"$set": {"a": 7}},
        {"$set": {"c": 1}, "$unset": {"b": ""}},
        {"$set": {"d": [1]}},
        {"$set": {"a": 0}},
    ]
    changes = [(each, smallest_change(hand.migration, each, updates[n % 4])) for n, each in enumerate(reads)]
    written = hand.write(changes, undo=undo(hand, whole=False))
    assert written.applied == 30
    assert [back(hand, n) for n in range(30)] == reads


def test_a_document_is_put_back_only_while_it_is_what_was_read(hand: Hand) -> None:
    read = changed(hand)
    now = hand.stored(Key.of(1))
    hand.collection.update_one({}, {"$set": {"b": 7}})
    terms = hand.terms(
        eligible={},
        reads=None,
        mark=Hand(hand.collection.database, "plain", mark="filter", filter={"a": 1}).migration.marking,
    )
    assert hand.documents.write([GuardedChange(Key.of(1), now, Whole(read))], terms).applied == 0
    again = hand.stored(Key.of(1))
    assert hand.documents.write([GuardedChange(Key.of(1), again, Whole(back(hand)))], terms).applied == 1
    assert bson.decode(hand.stored(Key.of(1)))["b"] == 7


OPERANDS: list[Any] = [
    "$missing", ["$missing"], ["$missing", 0, 1], ["$missing", "$missing"], ["$missing", "x"], {"input": "$missing"}, {"input": "$missing", "in": 1},
    {"input": "$missing", "cond": True}, {"startDate": "$missing", "unit": "day", "amount": 1}, {"date": "$missing", "unit": "day"},
    {"startDate": "$missing", "endDate": "$missing", "unit": "day"}, {"date": "$missing"},
]  # fmt: skip


@pytest.mark.parametrize("operator", sorted(NEVER_MISSING))
def test_what_is_said_never_to_be_missing_is_there(database: Any, operator: str) -> None:
    """Where it is, the order of fields need not be kept."""
    database["things"].insert_one({})
    answered = 0
    for operand in OPERANDS:
        with contextlib.suppress(OperationFailure):  # not every operator takes every operand
            found = next(database["things"].aggregate([{"$project": {"value": {operator: operand}}}]))
            assert "value" in found, operand
            answered += 1
    assert answered or operator in (
        "$arrayToObject",
        "$objectToArray",
        "$in",
        "$size",
        "$not",
        "$strLenCP",
        "$strLenBytes",
    )
