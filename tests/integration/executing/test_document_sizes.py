"""Large documents, many of them, and deep ones (hole H34): what fits is written, what does not is a failure of its own."""

import tracemalloc
from typing import Any

import bson
import pytest
from pymongo.database import Database

from tests.integration.guarded_writes import MARK, Hand
from tests.integration.in_process_system import DEFAULTS, migrate, system, until
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailureKind
from whimbrel.domain.migrations.smallest_change import smallest_change
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
MB = 1024 * 1024


def seed(hand: Hand, *sizes: int) -> list[bytes]:
    for key, size in enumerate(sizes):
        hand.collection.insert_one({"_id": key, "fat": "x" * size, "n": 0})
    return [bytes(each.raw) for each in hand.raw.find().sort("_id")]


def test_h34_a_thousand_documents_of_20_kb_go_in_one_call(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "fat": "x" * 20_000} for key in range(1000)])
    read = [bytes(each.raw) for each in hand.raw.find().sort("_id")]
    written = hand.returned(read, {"$set": {"more": "y" * 2000}})
    assert (written.applied, written.doubtful, written.refused) == (1000, (), ())


@pytest.mark.parametrize("reads", [None, ["n"], ["fat"]], ids=["whole", "reads another", "reads it"])
@pytest.mark.parametrize(
    "update", [{"$set": {"more": "y" * 6 * MB}}, {"$push": {"more": "y" * 6 * MB}}], ids=["set", "push"]
)
def test_h34_a_document_of_9_mb_takes_a_change_of_6_mb_and_is_guarded(
    database: Data, update: dict[str, Any], reads: list[str] | None
) -> None:
    hand = Hand(database, reads=reads)
    read = seed(hand, 9 * MB, 9 * MB)
    hand.collection.update_one({"_id": 1}, {"$set": {(reads or ["n"])[0]: "changed"}})
    written = hand.returned(read, update)
    assert (written.applied, written.refused) == (1, ())
    assert [each["_id"] for each in hand.collection.find({MARK: {"$exists": True}}, {"_id": 1})] == [0]
    assert [each["_id"] for each in hand.collection.find({"more": {"$exists": True}}, {"_id": 1})] == [0]


def test_h34_what_does_not_fit_is_a_failure_of_its_own(database: Data) -> None:
    hand = Hand(database)
    read = seed(hand, 10, 9 * MB, 10, 3 * MB, 15 * MB, 100)
    changes: list[dict[str, Any]] = [
        {"$set": {"n": 1}},
        {"$set": {"more": "y" * 8 * MB}},  # with its guard it is larger than a command
        {"$set": {"more": "y" * 17 * MB}},  # the change alone is larger than a document
        {"$set": {"more": "y" * 13 * MB}},  # the document would be larger than a document may be
        {"$set": {"n": 1}},
        {"$inc": {"n": 1}},
    ]
    written = hand.write(
        [
            (each, smallest_change(hand.migration, each, change))
            for each, change in zip(read, changes, strict=True)
        ]
    )
    assert {(each.key.value, each.kind, each.type, each.code) for each in written.refused} == {
        (key, FailureKind.DATA, "BSONObjectTooLarge", 17419) for key in (1, 2, 3)
    }
    assert {each.key.value for each in written.refused if "Declare reads=" in each.message} == {1, 2}
    done = hand.collection.find({"n": 1, MARK: {"$exists": True}}, {"_id": 1})
    assert {each["_id"] for each in done} == {0, 4, 5}
    assert all(len(each.message) < 1000 for each in written.refused)


def test_h34_declared_reads_leave_room_for_a_large_change(database: Data) -> None:
    hand = Hand(database, reads=["n"])
    assert hand.returned(seed(hand, 9 * MB), {"$set": {"fat": "y" * 15 * MB}}).applied == 1


def test_h34_a_document_of_nearly_16_mb_can_be_marked(database: Data) -> None:
    hand = Hand(database)
    read = seed(hand, 16 * MB - 200)
    assert hand.returned(read, {"$set": {"n": 0}}).applied == 1


def test_h34_singles_larger_than_a_command_together_are_parted(database: Data) -> None:
    hand = Hand(database)
    read = seed(hand, *([10] * 6))
    assert hand.returned(read, {"$push": {"more": "y" * 4 * MB}}).applied == 6
    assert hand.documents.claim([], {"status": "processing"}, hand.terms()) == []


def test_h34_fat_and_small_documents_in_one_run(store: MongoStore, database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many(
        [{"_id": key, "fat": "x" * (3 * MB if key % 50 == 0 else 10)} for key in range(200)]
    )
    hand.collection.insert_one({"_id": 1000, "fat": "x" * 15 * MB})

    def transform(it: dict[str, Any]) -> Any:
        return {"$set": {"again": it["fat"]}}

    found = migrate(store, Migration(name="by-hand", collection="things", transform=transform))
    assert found.run.counts == Counts(changed=200)
    (failure,) = store.ledger.failures.list(found.run.id)
    assert (failure.key, failure.type) == (Key.of(1000), "BSONObjectTooLarge")


def test_a_page_is_bounded_by_its_bytes_and_knows_whether_it_is_the_last(database: Data) -> None:
    hand = Hand(database)
    seed(hand, *([MB] * 40))
    where, seen = Range(None, Key.of(39)), 0
    while True:
        page = hand.documents.read(where, {}, 1000)
        assert sum(map(len, page.documents)) <= 17 * MB
        seen += len(page.documents)
        if page.end:
            break
        where = Range(Key.of_document(page.documents[-1]), where.hi)
    assert seen == 40


# depth


def nested(levels: int, leaf: int, *, arrays: bool) -> Any:
    found: Any = leaf
    for _ in range(levels):
        found = [found] if arrays else {"a": found}
    return found


@pytest.mark.parametrize("arrays", [False, True], ids=["documents", "arrays"])
@pytest.mark.parametrize("reads", [None, ["deep"]], ids=["whole", "reads"])
@pytest.mark.parametrize("levels", [100, 150, 178])
def test_h34_deep_documents_are_guarded_and_written(
    database: Data, levels: int, reads: list[str] | None, arrays: bool
) -> None:
    hand = Hand(database, reads=reads)
    hand.collection.insert_many(
        [{"_id": key, "deep": nested(levels, key, arrays=arrays)} for key in range(4)]
    )
    read = [bytes(each.raw) for each in hand.raw.find().sort("_id")]
    hand.collection.update_one({"_id": 1}, {"$set": {"deep": nested(levels, 7, arrays=arrays)}})
    deep = nested(levels, 9, arrays=arrays)
    changes: list[dict[str, Any]] = [
        {"$set": {"deep": deep}},
        {"$set": {"deep": deep}},
        {"$inc": {"n": 1}},
        {"$set": {"odd": {"x.y": deep}}},
    ]
    changes[3]["$set"] = {"n": 1}
    written = hand.write(
        [
            (each, smallest_change(hand.migration, each, change))
            for each, change in zip(read, changes, strict=True)
        ]
    )
    assert (written.applied, written.refused) == (3, ())
    assert bson.encode(hand.collection.find_one({"_id": 0}, {"deep": 1, "_id": 0}) or {}) == bson.encode(
        {"deep": deep}
    )


@pytest.mark.parametrize("levels", [181, 190, 199, 250])
def test_h34_what_is_nested_too_deep_is_a_failure_of_its_own(database: Data, levels: int) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "n": 0} for key in range(6)])
    read = [bytes(each.raw) for each in hand.raw.find().sort("_id")]
    deep = nested(levels, 1, arrays=False)
    changes: list[Any] = [
        {"$set": {"n": 1}},
        {"$set": {"n": deep}},
        {"$inc": {"n": 1}},
        {"$push": {"m": deep}},
        [{"$set": {"n": {"$literal": deep}}}],
        {"$set": {"n": 1}},
    ]
    written = hand.write(
        [
            (each, smallest_change(hand.migration, each, change))
            for each, change in zip(read, changes, strict=True)
        ]
    )
    assert {(each.key.value, each.kind, each.type) for each in written.refused} == {
        (key, FailureKind.DATA, "NestedTooDeep") for key in (1, 3, 4)
    }
    assert {each["_id"] for each in hand.collection.find({"n": 1, MARK: {"$exists": True}})} == {0, 2, 5}


def test_a_verification_reads_by_bytes(store: MongoStore, database: Data) -> None:
    """24 documents of 4 MB are within its page of a hundred, and far beyond what it may hold."""
    it = Migration(name="by-hand", collection="things", update=[{"$set": {"n": 1}}])
    hand = Hand(database)
    for key in range(24):
        hand.collection.insert_one({"_id": key, "fat": "x" * 4 * MB, "n": 0})
    run = migrate(store, it).run
    checking = start_verification(store, run.id, it.definition, who="test", defaults=DEFAULTS, sample=None)
    tracemalloc.start()
    try:
        with system(store, [it]):
            found = until(store, checking)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.run.status is RunStatus.COMPLETED
    assert {each.check: each.numbers for each in found.run.report}["transform again"]["tried"] == 24
    assert peak < 110 * MB


def test_what_takes_a_verification_too_long_is_looked_at_in_smaller_parts(
    store: MongoStore, database: Data
) -> None:
    """Its filter takes tens of milliseconds a document; a statement may take half a second."""
    many = {"$size": {"$filter": {"input": {"$range": ["$n", 200_000]}, "cond": {"$gte": ["$$this", 0]}}}}
    it = Migration(
        name="by-hand", collection="things", filter={"$expr": {"$gt": [many, 0]}}, update=[{"$set": {"n": 1}}]
    )
    Hand(database).collection.insert_many([{"_id": key, "n": 0} for key in range(30)])
    run = migrate(store, it).run
    checking = start_verification(store, run.id, it.definition, who="test", defaults=DEFAULTS, sample=None)
    with system(store, [it]):
        found = until(store, checking, *ENDED, RunStatus.PAUSED)
    assert found.run.status is RunStatus.COMPLETED, found.run.message
    assert {each.check: each.numbers for each in found.run.report}["transform again"]["tried"] == 30
