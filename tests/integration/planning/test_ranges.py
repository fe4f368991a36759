"""Ranges of `_id` tile the collection, whatever the types of its keys, by tight bounds on the index."""

from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from tests.bson_values import (
    BAD_TEXT,
    EACH_TYPE,
    MAX_KEY,
    MIN_KEY,
    NULL,
    TIMESTAMP,
    Value,
    binary,
    date,
    db_pointer,
    decimal,
    documents,
    double,
    embedded,
    field,
    int32,
    int64,
    scoped,
    string,
    symbol,
)
from tests.integration.guarded_writes import Hand
from whimbrel.domain.bson.raw_bson import DOCUMENT_OPTIONS, Key, document, element
from whimbrel.domain.migrations.changes import Row, Single
from whimbrel.domain.runs.batches import Range
from whimbrel.mongo.ranges import within

Data = Database[dict[str, Any]]
INF = float("inf")
LENIENT = DOCUMENT_OPTIONS.with_options(unicode_decode_error_handler="ignore")

# Every type that `_id` may have; several of those whose order is delicate.
IDS: list[Value] = [
    MIN_KEY, NULL, double(float("nan")), double(-INF), int32(-5), decimal(0), int32(1), int64(2**40), double(2.5), decimal(35, -1),
    double(INF), int64(2**62), string(""), string("B"), string("b"), symbol("c"), string("ü"), BAD_TEXT, embedded(),
    embedded(field("$ref", string("c")), field("$id", int32(1))), embedded(field("a", int32(1))), embedded(field("a", string("1"))),
    binary(b"", 0), binary(bytes(16), 3), binary(bytes(16), 4), binary(bytes(range(16)), 4), binary(b"\xff", 0), EACH_TYPE["objectId"],
    (0x07, b"\xff" * 12), (0x08, b"\0"), (0x08, b"\1"), date(-(2**50)), date(0), date(399_999_999_999_999), TIMESTAMP,
    db_pointer("c", bytes(12)), EACH_TYPE["javascript"], scoped("f()", field("x", int32(1))), MAX_KEY,
]  # fmt: skip
STATUS = {"$and": [{"status": "pending"}, {"_whimbrel.by-hand_v1": {"$exists": False}}]}


def mixed(database: Data, *, index: bool) -> Hand:
    hand = Hand(database)
    for at, key in enumerate(IDS):
        hand.raw.insert_one(
            RawBSONDocument(documents(key, [field("at", int32(at)), field("status", string("pending"))]))
        )
        if index:  # beside them, documents that are not eligible
            hand.collection.insert_one({"status": "done"})
    if index:
        hand.collection.create_index([("status", 1), ("_id", 1)])
    return hand


def ranges(hand: Hand, size: int, most: int, eligible: dict[str, Any]) -> list[Range]:
    """As the planner cuts them, with no more kept between two calls than the last key."""
    found: list[Range] = []
    after: Key | None = None
    while True:
        cuts = hand.documents.cuts(after, eligible, size, most)
        for key in cuts.keys:
            found.append(Range(after, key))
            after = key
        if cuts.end:
            return found


@pytest.mark.parametrize("index", [False, True], ids=["no index", "index"])
@pytest.mark.parametrize(("size", "most"), [(1, 5), (2, 100), (3, 1), (5, 2), (100, 3)])
def test_m6_h35_every_document_is_in_exactly_one_range(
    database: Data, size: int, most: int, index: bool
) -> None:
    hand = mixed(database, index=index)
    eligible = STATUS if index else {}
    found = ranges(hand, size, most, eligible)
    seen = [
        [Key.of_document(each) for each in hand.documents.read(where, eligible, 1000).documents]
        for where in found
    ]
    flat = [key for part in seen for key in part]
    assert len(flat) == len(set(flat)) == len(IDS)
    assert [len(part) for part in seen[:-1]] == [size] * (len(seen) - 1)
    assert len(seen[-1]) <= size
    assert [part[-1] for part in seen] == [where.hi for where in found]
    for where, part in zip(found, seen, strict=True):
        assert hand.documents.count(where, eligible) == len(part)
        assert hand.documents.keys(where, eligible, 1000) == tuple(part)
        assert hand.documents.nth(Range(where.lo, where.hi), 1) is not None


def test_m6_a_statement_over_a_range_changes_what_the_range_holds(database: Data) -> None:
    hand = mixed(database, index=False)
    counts = [
        hand.documents.update_range(where, {"$inc": {"n": 1}}, hand.terms())
        for where in ranges(hand, 3, 4, {})
    ]
    assert sum(counts) == len(IDS)
    assert hand.collection.count_documents({"n": 1}) == len(IDS)


def test_m6_documents_of_every_type_of_id_are_written_and_found_by_their_keys(database: Data) -> None:
    hand = mixed(database, index=False)
    read = hand.documents.read(Range(None, Key.of_document(documents(MAX_KEY, []))), {}, 1000).documents
    assert len(read) == len(IDS)
    for change in (Row(bson.encode({"n": 1})), Single({"$inc": {"m": 1}})):
        fresh = hand.documents.read_keys([Key.of_document(each) for each in read], {})
        assert hand.write([(each, change) for each in fresh]).applied == len(IDS)
    assert hand.collection.count_documents({"n": 1, "m": 1}) == len(IDS)
    assert len(
        hand.documents.tokens([Key.of_document(each) for each in read], "_whimbrel.by-hand_v1")
    ) == len(IDS)


def explain(hand: Hand, where: Range, eligible: dict[str, Any], hint: str) -> tuple[int, int, str]:
    command = {
        "find": "things",
        "filter": within(eligible, where),
        "hint": hint,
        "sort": {"_id": 1},
    }
    found = hand.collection.database.command(
        "explain", command, verbosity="executionStats", codec_options=LENIENT
    )
    stats = found["executionStats"]
    return stats["totalKeysExamined"], stats["nReturned"], str(found["queryPlanner"]["winningPlan"])


@pytest.mark.parametrize("index", [False, True], ids=["no index", "index"])
def test_h35_bounds_are_tight(database: Data, index: bool) -> None:
    hand = mixed(database, index=index)
    for where in ranges(hand, 3, 100, STATUS if index else {}):
        keys, returned, plan = explain(
            hand, where, STATUS if index else {}, "status_1__id_1" if index else "_id_"
        )
        assert keys <= returned + 1
        assert "SORT" not in plan


def test_h35_a_range_of_a_write_is_bounded_as_tightly(database: Data) -> None:
    hand = mixed(database, index=False)
    fence = {"$lt": ["$$NOW", hand.terms().until]}
    statement = {
        "q": within({}, Range(Key.of(1), Key.of("b")), fence),
        "u": {"$set": {"a": 1}},
        "multi": True,
        "hint": "_id_",
        "collation": {"locale": "simple"},
    }
    found = database.command(
        "explain", {"update": "things", "updates": [statement]}, verbosity="executionStats"
    )
    stats = found["executionStats"]
    assert stats["totalKeysExamined"] <= stats["totalDocsExamined"] + 1
    assert stats["totalDocsExamined"] == 8


def test_an_empty_collection_has_no_cuts(database: Data) -> None:
    hand = Hand(database)
    database.create_collection("things")
    found = hand.documents.cuts(None, {}, 100, 5)
    assert (found.keys, found.estimated, found.end) == ((), 0, True)
    assert hand.documents.read(Range(None, Key.of(1)), {}, 10) == hand.documents.read(
        Range(Key.of(1), Key.of(2)), {}, 10
    )
    assert hand.documents.read(Range(None, Key.of(1)), {}, 10).end


def test_fewer_documents_than_a_chunk_are_one_chunk(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key} for key in range(3)])
    found = hand.documents.cuts(None, {}, 100, 5)
    assert (found.keys, found.estimated, found.end) == ((Key.of(2),), 3, True)
    assert hand.documents.cuts(Key.of(2), {}, 100, 5).keys == ()


def test_a_full_last_chunk_is_followed_by_the_end(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key} for key in range(4)])
    first = hand.documents.cuts(None, {}, 2, 2)
    assert (first.keys, first.estimated, first.end) == ((Key.of(1), Key.of(3)), 4, False)
    second = hand.documents.cuts(first.keys[-1], {}, 2, 2)
    assert (second.keys, second.estimated, second.end) == ((), 0, True)


def test_h15_a_sparse_filter_is_cut_by_eligible_documents_only_where_an_index_serves_it(
    database: Data,
) -> None:
    hand = Hand(database)
    hand.collection.insert_many(
        [{"_id": key, "kind": "rare" if key % 100 == 0 else "common"} for key in range(1000)]
    )
    rare = {"$and": [{"kind": "rare"}, {"n": {"$exists": False}}]}
    assert hand.documents.cuts(None, rare, 5, 1).keys == (Key.of(4),)
    hand.collection.create_index([("kind", 1), ("_id", 1)])
    assert Hand(database).documents.cuts(None, rare, 5, 1).keys == (Key.of(400),)


def test_a_walk_finds_the_keys_of_the_whole_filter_slice_by_slice(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "n": key} for key in range(1200)])
    even = {"$expr": {"$eq": [{"$mod": ["$n", 2]}, 0]}}
    pages = list(hand.documents.survey(500).walk(even, Key.of(3)))
    assert [each.value for page in pages for each in page] == list(range(4, 1200, 2))
    assert [len(page) for page in pages] == [250, 250, 98]  # (3, 503], (503, 1003] and (1003, 1199]


def test_a_page_of_exactly_the_limit_is_not_known_to_be_the_last(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key} for key in range(10)])
    where = Range(Key.of(1), Key.of(6))
    pages = [hand.documents.read(where, {}, limit) for limit in (4, 5, 6)]
    assert [(len(page.documents), page.end) for page in pages] == [(4, False), (5, False), (5, True)]
    assert hand.documents.read(Range(Key.of(6), Key.of(6)), {}, 5).end


def test_the_nth_key_of_a_range(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key} for key in range(10)])
    where = Range(Key.of(1), Key.of(6))
    assert [hand.documents.nth(where, n) for n in (1, 5, 6)] == [Key.of(2), Key.of(6), None]


def test_keys_given_are_read_in_their_order_and_only_if_eligible(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "n": key % 2} for key in range(10)])
    keys = [Key.of(key) for key in (7, 3, 4, 99)]
    assert [Key.of_document(each).value for each in hand.documents.read_keys(keys, {"n": 1})] == [3, 7]
    assert hand.documents.count(keys, {"n": 1}) == 2


def test_counting_gives_up_after_its_time(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": key, "n": key} for key in range(20_000)])
    assert hand.documents.survey(1000).count({"n": {"$lt": 5}}, 30) == 5
    slow = {
        "$expr": {
            "$eq": [
                {
                    "$reduce": {
                        "input": {"$range": [0, 10_000]},
                        "initialValue": 0,
                        "in": {"$add": ["$$value", "$$this"]},
                    }
                },
                "$n",
            ]
        }
    }
    assert hand.documents.survey(1000).count(slow, 0.05) is None
    assert hand.documents.survey(1000).size() == 20_000


def test_m2_eligibility_is_compared_by_the_collections_collation(database: Data) -> None:
    database.create_collection("things", collation={"locale": "en", "strength": 2})
    hand = Hand(database, collated=True)
    hand.collection.insert_many([{"kind": kind} for kind in ("a", "A", "a", "b")])
    everything = Range(None, Key.of_document(documents(MAX_KEY, [])))
    eligible = {"kind": "a"}
    assert len(hand.documents.read(everything, eligible, 10).documents) == 3
    assert len(hand.documents.keys(everything, eligible, 10)) == 3
    assert hand.documents.count(everything, eligible) == hand.documents.survey(2).count(eligible, 10) == 3
    assert hand.documents.update_range(everything, {"$set": {"n": 1}}, hand.terms(eligible=eligible)) == 3


def test_a_key_in_an_expression_is_a_constant() -> None:
    key = Key(bytes(document([element(0x02, b"_id", string("$a")[1])]).raw))
    literal = RawBSONDocument(bytes(document([element(0x02, b"$literal", string("$a")[1])]).raw))
    assert within({}, Range(key, None)) == {"$expr": {"$gt": ["$_id", literal]}}
