"""What preflight warns of before a run starts, and what it says that it could not look at."""

from datetime import timedelta
from typing import Any

import pytest
from pymongo.database import Database

from whimbrel import Migration
from whimbrel.domain.runs.preflight_findings import Finding
from whimbrel.engine.operating.preflight import preflight
from whimbrel.engine.operating.start import Defaults, compose_run, draft_run
from whimbrel.mongo.preflight import servers
from whimbrel.mongo.store import MongoStore
from whimbrel.ports import Ahead

Data = Database[dict[str, Any]]
MIB = 1024 * 1024


def findings(
    store: MongoStore,
    *,
    documents: int | None = 1000,
    paths: frozenset[str] | None = None,
    growth: int | None = None,
    oplog: int | None = None,
    limit: int | None = None,
    **options: Any,
) -> list[Finding]:
    """Of a migration of `things`, by an update unless a function is given."""
    given: dict[str, Any] = {"name": "m", "collection": "things", **options}
    if "transform" not in given:
        given.setdefault("update", {"$set": {"new": 1}})
    it = Migration(**given).definition
    run = compose_run(store, it, defaults=Defaults(), limit=limit)
    ahead = Ahead(documents=documents, touched=paths, growth=growth, mean_growth=growth, oplog=oplog)
    return preflight(store, it, run, ahead)


def of(check: str, found: list[Finding]) -> list[Finding]:
    return [each for each in found if each.check == check]


def one(check: str, level: str, found: list[Finding]) -> Finding:
    (it,) = of(check, found)
    assert it.level == level
    assert it.reason.endswith(".")
    assert it.remedy.endswith((".", ")"))
    return it


def same(document: dict[str, Any]) -> dict[str, Any]:
    return document


def test_there_is_nothing_to_say_of_an_ordinary_collection(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"a": number % 2} for number in range(2000)])
    assert findings(store, filter={"a": 1}) == []
    assert findings(store, filter={"a": 1}, transform=same) == []


# all errors at once


def test_all_errors_are_listed_at_once(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"_id": 1, "_whimbrel": "mine"}, {"_id": 2, "a": 1}])
    found = findings(store, filter={"a": {"$bogus": 1}}, update={"$bogus": {"a": 1}})
    assert [(each.check, each.level) for each in found] == [
        ("filter", "error"),
        ("update", "error"),
        ("mark", "error"),
    ]


def test_warnings_are_listed_beside_errors_where_documents_can_be_looked_at(
    store: MongoStore, database: Data
) -> None:
    database["things"].insert_one({"_whimbrel": "mine"})
    database["things"].create_index("new", unique=True, sparse=True)
    levels = {each.check: each.level for each in findings(store)}
    assert levels == {"mark": "error", "unique-index": "warning"}


def test_a_collection_that_is_not_there_is_the_only_finding(store: MongoStore) -> None:
    one("collection", "error", findings(store))


def test_a_change_of_id_is_an_error(store: MongoStore, database: Data) -> None:
    database.create_collection("things")
    it = one("id", "error", findings(store, transform=same, paths=frozenset({"_id", "a"})))
    assert "changes _id" in it.reason


# the index


def many(database: Data, count: int = 120_000) -> None:
    database["things"].insert_many(
        [{"_id": number, "a": number % 50, "b": number} for number in range(count)]
    )


def test_a_large_collection_without_an_index_for_the_filter(store: MongoStore, database: Data) -> None:
    many(database)
    filter_ = {"b": {"$gt": 10}, "a": 7}
    it = one("index", "warning", findings(store, filter=filter_))
    detail = it.detail or {}
    assert detail["winningPlan"]["stage"] == "COLLSCAN"
    assert "COLLSCAN" in it.reason
    assert detail["documents"] == 120_000
    build = f'db.getSiblingDB("{database.name}").getCollection("things").createIndex({{"a": 1, "_id": 1}})'
    assert detail["build"] == build
    assert build in it.remedy

    database["things"].create_index("a")  # serves the filter, but not the order that the run goes in
    it = one("index", "warning", findings(store, filter=filter_))
    assert "FETCH < IXSCAN a_1" in it.reason
    assert (it.detail or {})["winningPlan"]["inputStage"]["indexName"] == "a_1"

    database["things"].create_index([("a", 1), ("_id", 1)])  # as it was told
    assert of("index", findings(store, filter=filter_)) == []


def test_where_no_index_could_serve_or_none_is_needed(store: MongoStore, database: Data) -> None:
    many(database)
    it = one("index", "warning", findings(store, filter={"a": {"$in": [7, 8]}}))
    assert (it.detail or {})["build"] is None
    assert "this filter has none" in it.remedy
    assert of("index", findings(store)) == []  # all documents are eligible: the walk reads what it must
    assert of("index", findings(store, filter={"a": {"$gte": 20}})) == []  # most are


def test_a_run_without_documents_needs_no_index(store: MongoStore, database: Data) -> None:
    many(database)
    assert of("index", findings(store, filter={"b": -1}, documents=0)) == []
    one("index", "warning", findings(store, filter={"b": -1}))
    uncounted = findings(
        store, filter={"b": -1}, documents=None
    )  # where errors keep documents from being tried
    one("index", "warning", uncounted)


def test_a_small_collection_is_walked_through_at_once(store: MongoStore, database: Data) -> None:
    many(database, 20_000)
    assert of("index", findings(store, filter={"a": 7})) == []


def test_a_collection_of_few_large_documents_is_not_small(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"a": number % 20, "b": "x" * 2 * MIB} for number in range(60)])
    it = one("index", "warning", findings(store, filter={"a": 20}))  # two are drawn: none may be eligible
    assert (it.detail or {})["documents"] == 60


# the validator

ONE_IS_BAD: list[dict[str, Any]] = [{"n": 1}, {"n": 2}, {"n": "bad"}]
NUMBERS = {"$jsonSchema": {"properties": {"n": {"bsonType": "int"}}}}


@pytest.mark.parametrize(
    ("level", "sentence"),
    [("strict", "it becomes a failure"), ("moderate", "may stay invalid")],
)
def test_documents_that_violate_the_validator_already(
    store: MongoStore, database: Data, level: str, sentence: str
) -> None:
    database["things"].insert_many(ONE_IS_BAD)
    database.command("collMod", "things", validator=NUMBERS, validationLevel=level)
    it = one("validator", "warning", findings(store))
    assert f"a {level} validator, which 1 of the 3 eligible among all 3 documents" in it.reason
    assert sentence in it.reason
    assert (
        of("validator", findings(store, filter={"n": {"$type": "int"}})) == []
    )  # the bad one is not eligible


@pytest.mark.parametrize("lenient", [{"validationAction": "warn"}, {"validationLevel": "off"}], ids=str)
def test_a_validator_that_refuses_nothing_is_no_warning(
    store: MongoStore, database: Data, lenient: dict[str, Any]
) -> None:
    database["things"].insert_many(ONE_IS_BAD)
    database.command("collMod", "things", validator=NUMBERS, **lenient)
    assert of("validator", findings(store)) == []


# unique and TTL indexes

TOUCHED = [
    {"update": {"$set": {"a.b": 1}}},
    {"update": [{"$set": {"a": {"b": 1}}}]},
    {"update": {"$rename": {"c": "a"}}},
    {"transform": same, "paths": frozenset({"a.b.c"})},
]
UNKNOWN = [{"transform": same}, {"update": [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"x": 1}]}}]}]


@pytest.mark.parametrize("options", TOUCHED, ids=["operator", "pipeline", "rename", "dry run"])
def test_a_unique_index_on_what_is_changed(
    store: MongoStore, database: Data, options: dict[str, Any]
) -> None:
    database["things"].create_index("a.b", unique=True)
    it = one("unique-index", "warning", findings(store, **options))
    assert "'a.b_1'" in it.reason
    assert (it.detail or {})["fields"] == ["a.b"]


@pytest.mark.parametrize("options", TOUCHED, ids=["operator", "pipeline", "rename", "dry run"])
def test_a_ttl_index_on_what_is_changed(store: MongoStore, database: Data, options: dict[str, Any]) -> None:
    database["things"].create_index("a.b", expireAfterSeconds=3600)
    it = one("ttl-index", "warning", findings(store, **options))
    assert "3,600 seconds old is deleted within a minute" in it.reason
    assert (it.detail or {})["expireAfterSeconds"] == 3600


@pytest.mark.parametrize("options", UNKNOWN, ids=["function", "whole documents"])
def test_what_a_definition_does_not_tell_is_unknown(
    store: MongoStore, database: Data, options: dict[str, Any]
) -> None:
    database["things"].create_index("a", unique=True)
    database["things"].create_index("at", expireAfterSeconds=3600)
    found = findings(store, **options)
    assert "cannot be told from its definition" in one("unique-index", "unknown", found).reason
    one("ttl-index", "unknown", found)
    assert findings(store, transform=same, paths=frozenset({"b"})) == []  # a dry run tells


def test_other_indexes_are_no_warning(store: MongoStore, database: Data) -> None:
    database["things"].create_index("ab", unique=True)
    database["things"].create_index("a")
    assert findings(store, update={"$set": {"a": 1}}) == []


# sizes and parents


def test_a_document_near_the_limit(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"a": "x" * (15 * MIB + 500_000)}, {"a": "small"}])
    it = one("size", "warning", findings(store))
    assert (it.detail or {})["largest"] > 15 * MIB
    assert of("size", findings(store, filter={"a": "small"})) == []


def test_the_growth_that_a_dry_run_found_counts(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"a": "x" * 9 * MIB})
    assert of("size", findings(store)) == []
    assert (one("size", "warning", findings(store, growth=8 * MIB)).detail or {})["growth"] == 8 * MIB


def test_before_images_count(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"a": "x" * 8 * MIB, "b": 1})
    for update, undo, near in [
        ({"$set": {"a": 1}}, True, True),
        ({"$set": {"b": 2}}, True, False),
        ({"$set": {"b": 2}}, "document", True),
        ({"$set": {"a": 1}}, False, False),
    ]:
        assert bool(of("size", findings(store, update=update, undo=undo))) == near, (update, undo)
    assert of("size", findings(store, transform=same, undo=True)) != []  # it may change whatever is there
    assert of("size", findings(store, transform=same, undo=True, paths=frozenset({"b"}))) == []
    room = database.command("dbStats")
    many = int((room["fsTotalSize"] - room["fsUsedSize"]) / (16 * MIB))
    volumes = [
        findings(store, update={"$set": {"a": 1}}, undo=undo, documents=many) for undo in (False, True)
    ]
    assert [bool(of("disk", each)) for each in volumes] == [False, True]


@pytest.mark.parametrize("parent", ["text", None, 5, ["a"], [{"b": 1}]], ids=str)
def test_what_is_no_document_above_a_path_that_a_pipeline_sets(
    store: MongoStore, database: Data, parent: Any
) -> None:
    database["things"].insert_many([{"a": {"b": 1}, "ok": True}, {"a": parent}, {}])
    it = one("parent", "warning", findings(store, update=[{"$set": {"a.c": 1}}]))
    assert "'a', which is no document in 1 of the 3 eligible among all 3 documents" in it.reason
    assert findings(store, update={"$set": {"a.c": 1}}) == []  # MongoDB itself refuses that, aloud
    fine = {"ok": True}
    assert findings(store, update=[{"$set": {"a.c": 1}}], filter=fine) == []  # it is not eligible


def test_parents_at_every_depth(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"a": {"b": "text"}})
    it = one("parent", "warning", findings(store, update=[{"$set": {"a.b.c": 1}}]))
    assert (it.detail or {})["path"] == "a.b"


def test_a_sample_that_takes_too_long_is_unknown(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    database["things"].insert_many([{"a": number} for number in range(9000)])
    database["things"].create_index("new", unique=True, sparse=True)
    monkeypatch.setattr("whimbrel.mongo.preflight.sample.LOOK", 1)
    slow = {"$expr": {"$gt": [{"$size": {"$filter": {"input": {"$range": [0, 5000]}, "cond": "$$this"}}}, 0]}}
    found = findings(store, filter=slow)
    assert "longer than 2 seconds" in one("sample", "unknown", found).reason
    one("unique-index", "warning", found)  # the others are done all the same


# volume


def test_a_disk_without_room_for_what_grows(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"a": 1})
    it = one("disk", "warning", findings(store, documents=10**12))
    assert (it.detail or {})["needed"] > (it.detail or {})["free"] > 0
    assert of("disk", findings(store, documents=1000, growth=10**12)) != []
    assert of("disk", findings(store, documents=1000)) == []


def test_an_oplog_too_short_for_those_who_read_it(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"a": 1})
    assert of("oplog", findings(store, documents=10**8)) == []  # nobody does: it has one member
    with database["things"].watch():
        it = one("oplog", "warning", findings(store, documents=10**8))
        assert of("oplog", findings(store, documents=1000)) == []
    detail = it.detail or {}
    assert detail["volume"] > detail["oplogBytes"] > 0
    assert detail["windowSeconds"] >= 0
    assert "100,000,000 documents" in it.reason
    with database["things"].watch():  # a dry run knows better
        it = one("oplog", "warning", findings(store, documents=1000, oplog=10**11))
        assert of("oplog", findings(store, documents=10**8, oplog=1000)) == []
    assert "as the dry run predicts" in it.reason


# who else is there


def test_change_streams_that_see_the_collection(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({})
    database["others"].insert_one({})
    with database["others"].watch():
        assert of("change-streams", findings(store)) == []
    with database["things"].watch(), database.watch(), database.client.watch():
        it = one("change-streams", "warning", findings(store))
    assert sorted((it.detail or {})["open"]) == ["cluster", "collection", "database"]


def test_runs_on_the_collection_that_have_not_ended(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({})
    database["others"].insert_one({})
    runs = store.ledger.runs
    other = Migration(name="other", collection="others", update={"$set": {"a": 1}}).definition
    theirs = Migration(name="theirs", collection="things", update={"$set": {"a": 1}}).definition
    runs.add(draft_run(store, other, defaults=Defaults()), "a test")
    assert of("runs", findings(store)) == []
    added = runs.add(draft_run(store, theirs, defaults=Defaults()), "a test")
    it = one("runs", "warning", findings(store))
    assert (it.detail or {})["runs"] == [{"run": added.id, "migration": "theirs", "status": "queued"}]


# clocks


def test_a_host_whose_clock_is_wrong(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    database["things"].insert_one({})
    right = servers.now
    assert of("clock", findings(store)) == []
    for shift, word in ((-60, "ahead of"), (60, "behind")):
        monkeypatch.setattr(servers, "now", lambda shift=shift: right() + timedelta(seconds=shift))
        assert f"60.0 seconds {word} this host's" in one("clock", "warning", findings(store)).reason
