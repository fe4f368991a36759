"""Documents that MongoDB refuses: exactly they fail, with what it said; all others are done, and the counts are right."""

from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.guarded_writes import MARK, TOKEN, Hand
from tests.integration.in_process_system import migrate
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailureKind
from whimbrel.domain.migrations.smallest_change import smallest_change
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.states import RunStatus
from whimbrel.errors import Refused
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
BAD = {7, 8, 500, 999}
EVERYTHING = Range(None, Key.of(10_000))


def validated(database: Data) -> Hand:
    """A thousand documents, four of which may never have `done`."""
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "n": key, "bad": key in BAD} for key in range(1000)])
    schema = {"properties": {"bad": {"bsonType": "bool"}, "done": {"bsonType": "int"}}, "required": ["bad"]}
    database.command(
        "collMod",
        "things",
        validator={"$jsonSchema": schema, "$or": [{"bad": False}, {"done": {"$exists": False}}]},
    )
    return hand


def unique(database: Data) -> Hand:
    """A thousand documents, four of which would get a value that is there already."""
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "n": key, "bad": key in BAD} for key in range(1000)])
    hand.collection.insert_one({"_id": -1, "done": 1, "n": -1, MARK: "other.1"})
    hand.collection.create_index("done", unique=True, sparse=True)
    return hand


def raws(hand: Hand) -> list[bytes]:
    return [bytes(each.raw) for each in hand.raw.find({"_id": {"$gte": 0}}).sort("_id")]


KINDS: list[tuple[Callable[[Data], Hand], Any, int, str, str]] = [
    (
        validated,
        lambda _: 1,
        121,
        "DocumentValidationFailure",
        "failingDocumentId|schemaRulesNotSatisfied|operatorName",
    ),
    (unique, lambda key: 1 if key in BAD else key + 10, 11000, "DuplicateKey", "done_1"),
]


@pytest.mark.parametrize(("make", "value", "code", "type_", "told"), KINDS, ids=["121", "11000"])
@pytest.mark.parametrize("single", [False, True], ids=["columns", "singly"])
def test_m16_m17_of_different_changes_only_the_refused_ones_fail(
    database: Data, make: Callable[[Data], Hand], value: Any, code: int, type_: str, told: str, single: bool
) -> None:
    hand = make(database)
    beside = {"$inc": {"m": 1}} if single else {}
    read = raws(hand)
    written = hand.write(
        [
            (each, smallest_change(hand.migration, each, {"$set": {"done": value(key)}, **beside}))
            for key, each in enumerate(read)
        ]
    )
    assert {each.key.value for each in written.refused} == BAD
    assert {(each.kind, each.type, each.code) for each in written.refused} == {
        (FailureKind.DATA, type_, code)
    }
    assert any(word in each.message for each in written.refused for word in told.split("|"))
    assert {key for key, mark in hand.marks().items() if mark != TOKEN and key >= 0} == BAD
    assert hand.documents.evidence(EVERYTHING, MARK, TOKEN) == Counts(changed=996)
    assert written.clean is single  # a broken statement of many reports nothing (hole H1)
    assert not {each.key.value for each in written.doubtful} & BAD
    if single:
        assert (written.applied, written.doubtful) == (996, ())
    else:
        assert written.applied < 996
        assert len(written.doubtful) == 996


def test_h1_a_range_with_a_refused_document_says_no_number(database: Data) -> None:
    hand = validated(database)
    with pytest.raises(Refused, match="failed validation"):
        hand.documents.update_range(EVERYTHING, {"$set": {"done": 1}}, hand.terms())
    done = hand.documents.evidence(EVERYTHING, MARK, TOKEN).changed
    assert 0 < done < 996  # some were changed, some were not reached


def test_a_range_counts_what_it_changed_and_does_it_once(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "n": 0} for key in range(100)])
    for where, count in (
        (Range(None, Key.of(9)), 10),
        (Range(Key.of(9), Key.of(59)), 50),
        (Range(Key.of(9), Key.of(59)), 0),
    ):
        assert hand.documents.update_range(where, {"$inc": {"n": 1}}, hand.terms()) == count
    assert hand.collection.count_documents({"n": 1, MARK: TOKEN}) == 60


@pytest.mark.parametrize("group", [1, 32])
def test_groups_of_keys_name_the_refused_ones(database: Data, group: int) -> None:
    hand = validated(database)
    keys = [Key.of(key) for key in range(1000)]
    written = hand.documents.update_keys(keys, {"$set": {"done": 1}}, hand.terms(), group=group)
    if group == 1:
        assert (written.applied, {each.key.value for each in written.refused}) == (996, BAD)
        assert (written.doubtful, written.clean) == ((), True)
        return
    assert {key // 32 for key in BAD} == {each.key.value // 32 for each in written.doubtful}
    assert (len(written.doubtful), written.refused, written.clean) == (
        3 * 32 - 24,
        (),
        False,
    )  # the last group has 8
    rest = [each.key for each in written.doubtful]
    again = hand.documents.update_keys(rest, {"$set": {"done": 1}}, hand.terms(), group=1)
    assert {each.key.value for each in again.refused} == BAD
    assert hand.documents.evidence(EVERYTHING, MARK, TOKEN) == Counts(changed=996)


@pytest.mark.parametrize("declarative", [True, False])
@pytest.mark.parametrize("make", [validated, unique], ids=["121", "11000"])
def test_h1_a_run_counts_exactly_what_was_done(
    store: MongoStore, database: Data, make: Callable[[Data], Hand], declarative: bool
) -> None:
    make(database)
    value: Any = {"$cond": ["$bad", 1, {"$add": ["$_id", 10]}]} if make is unique else 1
    update = [{"$set": {"done": {"$toInt": value}}}]

    def transform(it: dict[str, Any]) -> Any:
        return {"$set": {"done": it["_id"] + 10 if make is unique and not it["bad"] else 1}}

    given: dict[str, Any] = {"update": update} if declarative else {"transform": transform}
    found = migrate(
        store, Migration(name="by-hand", collection="things", filter={"_id": {"$gte": 0}}, **given)
    )
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert found.run.counts == Counts(changed=996)
    assert not found.run.inferred
    failures = store.ledger.failures.list(found.run.id)
    assert {each.key.value for each in failures} == BAD
    assert {each.code for each in failures} == {11000 if make is unique else 121}


def test_an_update_too_large_for_a_command_with_many_statements_is_sent_in_several(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "n": 0} for key in range(200)])
    excluded = hand.terms().eligible | {"text": {"$nin": [str(key) * 20 for key in range(5000)]}}
    written = hand.documents.update_keys(
        [Key.of(key) for key in range(200)], {"$inc": {"n": 1}}, hand.terms(eligible=excluded), group=1
    )
    assert (written.applied, written.refused) == (200, ())


def test_an_index_that_is_dropped_meanwhile_is_done_without(store: MongoStore, database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "n": 0, "kind": "a"} for key in range(2000)])
    hand.collection.create_index([("kind", 1), ("_id", 1)])

    def transform(it: dict[str, Any]) -> Any:
        if it["_id"] == 50:
            hand.collection.drop_indexes()
        return {"$set": {"n": 1}}

    found = migrate(
        store, Migration(name="by-hand", collection="things", filter={"kind": "a"}, transform=transform)
    )
    assert (found.run.status, found.run.counts) == (RunStatus.COMPLETED, Counts(changed=2000))
