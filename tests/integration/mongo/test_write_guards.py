"""A document is written only if it still is what was read: the traps of equality, one by one."""

import struct
from typing import Any

import pytest
from pymongo.database import Database

from tests.bson_values import (
    BAD_TEXT,
    EACH_TYPE,
    MAX_KEY,
    MIN_KEY,
    NULL,
    TRUE,
    UNDEFINED,
    YEAR_14645,
    Value,
    array,
    date,
    db_pointer,
    decimal,
    documents,
    double,
    embedded,
    field,
    int32,
    int64,
    regex,
    scoped,
    string,
    symbol,
)
from tests.integration.guarded_writes import MARK, TOKEN, Hand, unmarked
from tests.integration.in_process_system import migrate
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key, document, elements
from whimbrel.domain.failures.failure import FailureKind
from whimbrel.domain.migrations.changes import Row, Single, Skipped, Unchanged
from whimbrel.domain.migrations.smallest_change import smallest_change
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.states import RunStatus
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
MISSING = None
NAN = double(float("nan"))
ONE = bytes(document([field("n", int32(1))]).raw)  # what a function returned

# What was read, what the application made of it, and which guards must tell them apart.
BOTH, READS, NEITHER = {"whole", "reads"}, {"reads"}, set[str]()
TRAPS: dict[str, tuple[Value | None, Value | None, set[str]]] = {
    "null became missing": (NULL, MISSING, BOTH),
    "missing became null": (MISSING, NULL, BOTH),
    "undefined became null": (UNDEFINED, NULL, BOTH),
    "undefined became missing": (UNDEFINED, MISSING, BOTH),
    "array became an array that contains it": (array(int32(1)), array(array(int32(1))), BOTH),
    "scalar became an array that contains it": (int32(5), array(int32(5), int32(6)), BOTH),
    "array became its scalar": (array(int32(5)), int32(5), BOTH),
    "order in an embedded document": (
        embedded(field("x", int32(1)), field("y", int32(2))),
        embedded(field("y", int32(2)), field("x", int32(1))),
        BOTH,
    ),
    "embedded document grew": (
        embedded(field("x", int32(1))),
        embedded(field("x", int32(1)), field("y", NULL)),
        BOTH,
    ),
    "order in an array": (array(int32(1), int32(2)), array(int32(2), int32(1)), BOTH),
    "int became long": (int32(5), int64(5), BOTH),
    "int became double": (int32(5), double(5.0), BOTH),
    "long became decimal": (int64(5), decimal(5), BOTH),
    "double became decimal": (double(5.0), decimal(5), BOTH),
    "true became 1": (TRUE, int32(1), BOTH),
    "long became double": (int64(5), double(5.0), READS),  # equal, and of one size: hole H30
    "text became a symbol": (string("a"), symbol("a"), READS),
    "decimal 5 became 5.0": (decimal(5), decimal(50, -1), NEITHER),  # one value in another precision
    "zero became minus zero": (double(0.0), double(-0.0), NEITHER),
    "long in a document became double": (
        embedded(field("x", int64(5))),
        embedded(field("x", double(5.0))),
        NEITHER,
    ),
    "case": (string("abc"), string("ABC"), BOTH),
    "text became a pattern that matches it": (string("abc"), regex("^a", ""), BOTH),
    "pattern became another": (regex("^a", "i"), regex("^a", "im"), BOTH),
    "operator-like document": (embedded(field("$gt", int32(1))), embedded(field("$gt", int32(2))), BOTH),
    "nan became a number": (NAN, double(1.0), BOTH),
    "nan became missing": (NAN, MISSING, BOTH),
    "min became max": (MIN_KEY, MAX_KEY, BOTH),
    "code lost its scope": (scoped("f()", field("x", int32(1))), (0x0D, EACH_TYPE["javascript"][1]), BOTH),
    "scope changed": (scoped("f()", field("x", int32(1))), scoped("f()", field("x", int32(2))), BOTH),
    "date became its number": (date(5), int64(5), BOTH),
    "far date moved": (YEAR_14645, date(399_999_999_999_998), BOTH),
}


def with_field(value: Value | None, key: int, name: str = "f") -> bytes:
    return documents(int32(key), [field("n", int32(0)), *([] if value is MISSING else [field(name, value)])])


@pytest.mark.parametrize("collation", [None, {"locale": "en", "strength": 2}], ids=["simple", "collation"])
@pytest.mark.parametrize("change", [Row(ONE), Single({"$inc": {"n": 1}})], ids=["columns", "alone"])
@pytest.mark.parametrize("guard", ["whole", "reads"])
def test_m2_what_the_application_changed_keeps_its_value_and_gets_no_mark(
    database: Data, guard: str, change: Any, collation: dict[str, Any] | None
) -> None:
    database.command({"create": "things", **({"collation": collation} if collation else {})})
    hand = Hand(database, reads=["f"] if guard == "reads" else None, collated=collation is not None)
    told_by = (
        "whole" if collation else guard
    )  # the filter needs the other collation: the whole document is compared then
    for key, (name, (before, after, told_apart)) in enumerate(TRAPS.items()):
        (read,) = hand.insert(with_field(before, key))
        meanwhile = with_field(after, key)
        hand.replace(meanwhile)
        written = hand.write([(read, change)])
        now = hand.stored(Key.of_document(read))
        if told_by in told_apart:
            assert (written.applied, [each.key for each in written.doubtful]) == (
                0,
                [Key.of_document(read)],
            ), name
            assert now == meanwhile, name
        else:
            assert written.applied == 1, name


@pytest.mark.parametrize("guard", ["whole", "reads"])
def test_m2_the_same_value_is_recognised_whatever_it_is(database: Data, guard: str) -> None:
    hand = Hand(database, reads=["f"] if guard == "reads" else None)
    values = [value for before, after, _ in TRAPS.values() for value in (before, after)] + list(
        EACH_TYPE.values()
    )
    read = hand.insert(*(with_field(value, key) for key, value in enumerate(values)))
    assert hand.write([(each, Row(ONE)) for each in read]).applied == len(values)
    for each in read:
        now = elements(hand.stored(Key.of_document(each)))
        assert now.pop(b"_whimbrel") == embedded(field("by-hand_v1", string(TOKEN)))
        assert now == {**elements(each), b"n": int32(1)}


@pytest.mark.parametrize(
    "change",
    [Row(ONE), Unchanged(), Skipped(), Single({"$inc": {"n": 1}}), Single([{"$set": {"n": 1}}])],
    ids=repr,
)
@pytest.mark.parametrize("guard", ["whole", "reads"])
def test_of_many_documents_only_those_the_application_left_alone_are_written(
    database: Data, guard: str, change: Any
) -> None:
    hand = Hand(database, reads=["f"] if guard == "reads" else None)
    read = hand.insert(*(with_field(int32(5), key) for key in range(250)))
    hand.collection.update_many({"_id": {"$mod": [5, 0]}}, {"$set": {"f": 6}})
    written = hand.write([(each, change) for each in read])
    assert written.applied == 200
    assert {key for key, mark in hand.marks().items() if mark is None} == set(range(0, 250, 5))
    changed = 0 if isinstance(change, Unchanged | Skipped) else 1
    assert hand.collection.count_documents({"n": changed, MARK: {"$exists": True}}) == 200
    assert hand.collection.count_documents({"n": 0, "f": 6, MARK: {"$exists": False}}) == 50
    assert {each.key for each in written.doubtful} >= {Key.of(key) for key in range(0, 250, 5)}


def test_declared_reads_leave_the_applications_other_fields_alone(database: Data) -> None:
    hand = Hand(database, reads=["f"])
    read = hand.insert(with_field(int32(5), 1))
    hand.collection.update_one({"_id": 1}, {"$set": {"other": "application"}})
    assert hand.returned(read, {"$set": {"n": 1}}).applied == 1
    assert hand.collection.find_one({}, {"_whimbrel": 0}) == {
        "_id": 1,
        "n": 1,
        "f": 5,
        "other": "application",
    }


def test_declared_reads_do_not_suffice_where_the_whole_document_is_replaced(database: Data) -> None:
    hand = Hand(database, reads=["f"])
    read = hand.insert(documents(int32(1), [field("f", int32(1)), field("x.y", int32(1))]))
    hand.collection.update_one({"_id": 1}, {"$set": {"other": "application"}})
    assert hand.returned(read, {"_id": 1, "f": 1, "x.y": 2}).applied == 0
    assert hand.collection.find_one({}) == {"_id": 1, "f": 1, "x.y": 1, "other": "application"}


def test_declared_reads_do_not_write_what_is_no_longer_eligible(database: Data) -> None:
    hand = Hand(database, reads=["f"])
    read = hand.insert(with_field(int32(5), 1), with_field(int32(5), 2))
    hand.collection.update_one({"_id": 1}, {"$set": {MARK: "other.1"}})
    for change in ({"$set": {"n": 1}}, {"$inc": {"n": 1}}):
        hand.returned(read, change)
    assert hand.marks() == {1: "other.1", 2: TOKEN}
    assert [each["n"] for each in hand.collection.find().sort("_id")] == [0, 1]


def test_without_declared_reads_nothing_is_compared(database: Data) -> None:
    hand = Hand(database, reads=[])
    read = hand.insert(with_field(int32(5), 1))
    hand.collection.update_one({"_id": 1}, {"$set": {"f": 6}})
    assert hand.returned(read, {"$set": {"n": 1}}).applied == 1


def test_a_nested_path_is_not_written_over_what_is_no_document_any_more(database: Data) -> None:
    hand = Hand(database, reads=["f"])
    parents = [
        embedded(field("x", int32(1)), field("z", int32(7))),
        NULL,
        array(embedded(field("x", int32(1)))),
        string("text"),
        MISSING,
    ]
    read = hand.insert(
        *(
            documents(int32(key), [field("f", int32(1)), field("p", embedded(field("x", int32(1))))])
            for key in range(5)
        )
    )
    for key, parent in enumerate(parents):
        hand.replace(
            documents(
                int32(key), [field("f", int32(1)), *([] if parent is MISSING else [field("p", parent)])]
            )
        )
    written = hand.returned(read, {"$set": {"p.x": 2}})
    assert written.applied == 1
    found = {each["_id"]: each.get("p") for each in hand.collection.find()}
    assert found == {0: {"x": 2, "z": 7}, 1: None, 2: [{"x": 1}], 3: "text", 4: None}


def test_h12_nothing_is_written_once_the_lease_has_passed(database: Data) -> None:
    hand = Hand(database)
    read = hand.insert(with_field(int32(5), 1))
    passed = hand.terms().until.replace(year=2020)
    for change in ({"$set": {"n": 1}}, {"$inc": {"n": 1}}, [{"$set": {"n": 1}}]):
        assert hand.returned(read, change, until=passed).applied == 0
    keys = [Key.of(1)]
    assert (
        hand.documents.update_keys(keys, {"$inc": {"n": 1}}, hand.terms(until=passed), group=1).applied == 0
    )
    hand.documents.mark_failed(keys, {"status": "failed"}, hand.terms(until=passed))
    assert hand.stored(Key.of(1)) == read[0]


def test_a_write_that_is_sent_again_is_done_once(database: Data) -> None:
    hand = Hand(database)
    read = hand.insert(*(with_field(int32(5), key) for key in range(10)))
    for change in (
        {"$inc": {"n": 1}},
        {"$push": {"log": 1}},
        {"$set": {"n": 1}},
        [{"$set": {"n": {"$add": ["$n", 1]}}}],
    ):
        hand.returned(read, change)
    assert hand.collection.count_documents({"n": 1, "log": {"$exists": False}}) == 10


# H29: documents that do not survive Python's types

ODD: dict[str, list[bytes]] = {
    "a name twice": [field("f", int32(1)), field("f", int32(2))],
    "a name twice in a document": [field("f", embedded(field("x", int32(1)), field("x", int32(2))))],
    "undefined": [field("f", UNDEFINED)],
    "undefined in an array": [field("f", array(UNDEFINED, NULL))],
    "reference with $id first": [field("f", embedded(field("$id", int32(1)), field("$ref", string("c"))))],
    "reference with more": [field("f", embedded(field("$ref", string("c")), field("$id", int32(1)), field("x", int32(1))))],
    "DBPointer": [field("f", db_pointer("c", bytes(12)))],
    "flags out of order": [field("f", regex("^a", "xmi"))],
    "symbol": [field("f", symbol("s"))],
    "code with scope": [field("f", scoped("f()", field("a", int32(1))))],
    "MinKey and MaxKey": [field("f", array(MIN_KEY, MAX_KEY))],
    "old binary": [field("f", (0x05, struct.pack("<iBi", 5, 2, 1) + b"x"))],
    "UUID of another length": [field("f", (0x05, struct.pack("<iB", 3, 4) + b"abc"))],
    "nan with a payload": [field("f", (0x01, b"\1\0\0\0\0\0\xf8\x7f"))],
    "decimal not in lowest terms": [field("f", decimal(500, -2))],
    "text that is not UTF-8": [field("f", BAD_TEXT)],
    "a far date": [field("f", YEAR_14645)],
    "array with odd names": [field("f", (0x04, embedded(field("5", int32(1)), field("x", int32(2)))[1]))],
    "names of dots and dollars": [field("a.b", int32(1)), field("$c", int32(1)), field("", int32(1))],
}  # fmt: skip


@pytest.mark.parametrize("reads", [None, ["f"]], ids=["whole", "reads"])
@pytest.mark.parametrize(
    "change", [{"$set": {"n": 1}}, {"$inc": {"n": 1}}, None], ids=["set", "inc", "unchanged"]
)
def test_h29_the_guard_carries_the_bytes_that_were_read(
    database: Data, change: dict[str, Any] | None, reads: list[str] | None
) -> None:
    hand = Hand(database, reads=reads)
    decodable = {name: fields for name, fields in ODD.items() if name != "text that is not UTF-8"}
    read = hand.insert(
        *(
            documents(int32(key), [field("n", int32(0)), *fields])
            for key, fields in enumerate(decodable.values())
        )
    )
    changes = [
        (each, smallest_change(hand.migration, each, change) if change else Unchanged()) for each in read
    ]
    written = hand.write(changes)
    assert (written.applied, written.doubtful, written.refused) == (len(read), (), ())
    for name, each in zip(decodable, read, strict=True):
        now = unmarked(hand.stored(Key.of_document(each)))
        wanted = [(b"n", *int32(1)) if change and field_[0] == b"n" else field_ for field_ in unmarked(each)]
        assert now == wanted, name


def test_h29_a_document_that_cannot_be_decoded_is_guarded_too(database: Data) -> None:
    hand = Hand(database)
    read = hand.insert(documents(int32(1), [field("f", BAD_TEXT)]))
    assert hand.write([(read[0], Unchanged())]).applied == 1


def test_h29_a_document_that_cannot_be_decoded_is_a_failure_and_not_the_end_of_the_chunk(
    store: MongoStore, database: Data
) -> None:
    hand = Hand(database)
    hand.insert(
        *(
            documents(
                int32(key), [field("f", BAD_TEXT if key == 5 else YEAR_14645 if key == 6 else int32(1))]
            )
            for key in range(20)
        )
    )
    it = Migration(name="by-hand", collection="things", transform=lambda _: {"$set": {"n": 1}})
    found = migrate(store, it)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert found.run.counts == Counts(changed=19)
    (failure,) = store.ledger.failures.list(found.run.id)
    assert (failure.key, failure.kind, failure.type) == (Key.of(5), FailureKind.DATA, "Undecodable")


def test_a_field_that_is_there_twice_neither_ends_the_server_nor_loses_a_value(
    store: MongoStore, database: Data
) -> None:
    hand = Hand(database)
    twice = [field("a", int32(1)), field("a", int32(2)), field("b", int32(3))]
    read = hand.insert(documents(int32(1), twice), documents(int32(2), [*twice, field("a", int32(4))]))
    it = Migration(
        name="by-hand",
        collection="things",
        transform=lambda it: {"$set": {"a" if it["_id"] == 1 else "b": 9}},
    )
    found = migrate(store, it)
    (failure,) = store.ledger.failures.list(found.run.id)
    assert (failure.key, failure.kind, failure.type) == (Key.of(1), FailureKind.DATA, "Unwritable")
    assert hand.stored(Key.of(1)) == read[0]
    assert unmarked(hand.stored(Key.of(2)))[1:] == [
        (b"a", *int32(1)),
        (b"a", *int32(2)),
        (b"b", *int32(9)),
        (b"a", *int32(4)),
    ]
