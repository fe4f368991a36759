"""The dry run: what it shows is what a run does, and it writes nothing."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.database import Database

from tests.bson_values import documents, field, int32
from tests.integration.in_process_system import DEFAULTS, migrate, system, until
from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailureKind
from whimbrel.domain.migrations.migration import Migration
from whimbrel.engine.operating.start import draft_run
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.engine.rehearsing.dry_run import DryRun, dry_run
from whimbrel.engine.rehearsing.dry_run_view import dry_run_object
from whimbrel.errors import TooSlow
from whimbrel.mongo.rehearsal import MongoRehearsal
from whimbrel.mongo.store import MongoStore
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.workers import function_caller
from whimbrel.workers.definition_catalog import describe
from whimbrel.workers.function_caller import callers
from whimbrel.workers.migration_loader import load

Docs = Database[dict[str, Any]]
FUNCTIONS = """
import asyncio
import os
import sys
import time

from whimbrel import SKIP, migration

COUNT = 0


@migration(collection="things")
def cents(thing):
    print("said by the function")
    if "price" not in thing:
        raise KeyError("price")
    if thing["price"] == 0:
        return SKIP
    return {"$set": {"cents": round(thing["price"] * 100)}}


@migration(collection="things")
def doubled(thing):
    return {"$set": {"price": thing.get("price", 0) * 2}}


@migration(collection="things")
def stamped(thing):
    return {"$set": {"at": time.time_ns()}}


@migration(collection="things")
def hashed(thing):
    return {"$set": {"order": list({"a", "b", "c", "d", "e", "f", "g", "h"})}}


@migration(collection="things", timeout=4)
def sudden(thing, context):
    if thing["_id"] == 2:
        os._exit(9)
    if thing["_id"] == 3:
        while True:
            pass
    if thing["_id"] == 4:
        sys.exit("no")
    return {**thing, "run": bool(context.run)}


@migration(collection="things", timeout=0.2)
async def waiting(thing):
    await asyncio.sleep(60 if thing["_id"] == 1 else 0)
    return {"$inc": {"n": 1}, "$push": {"tags": "new"}}
"""


@pytest.fixture
def things(database: Docs) -> Docs:
    database["things"].insert_many(
        [{"_id": key, "price": key / 4, "deep": {"n": [1, {"x": key}]}} for key in range(100)]
    )
    return database


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("functions") / "dry_functions.py"
    path.write_text(FUNCTIONS)
    return str(path)


def function(store: MongoStore, source: str, name: str, **options: Any) -> DryRun:
    it = describe(source)[name]
    run = draft_run(store, it, defaults=DEFAULTS)
    return dry_run(store, it, run, callers(source), workers=2, **options)


def declarative(
    store: MongoStore, update: Any, *, filter_: dict[str, Any] | None = None, **options: Any
) -> DryRun:
    definition = Migration(
        name="dry", collection="things", update=update, filter=filter_, **options
    ).definition
    run = draft_run(store, definition, defaults=DEFAULTS)
    return dry_run(store, definition, run, callers(None), workers=2)


def edits(dry_run: DryRun, key: Any) -> dict[str, tuple[str, Any, Any]]:
    told = dry_run_object(dry_run)["diffs"]
    [one] = [each for each in told if each["id"] == key]
    return {edit["path"]: (edit["kind"], edit.get("old"), edit.get("new")) for edit in one["changes"]}


# nothing is written


Written = tuple[set[str], dict[str, list[bytes]], list[bytes]]


def written(client: MongoClient[Any], name: str) -> Written:
    """Every document of every database but those of the server and of other tests, and what the oplog tells of them.

    The server itself writes to those: documents expire, sessions are noted.
    """
    raw: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
    foreign = re.compile(f"^(config|admin|local|test_(?!{name.removeprefix('test_')}))")
    there = {each for each in client.list_database_names() if not foreign.match(each)}
    rows = {
        f"{each}.{collection}": sorted(bytes(row.raw) for row in here[collection].find())
        for each in there
        for here in [client.get_database(each, codec_options=raw)]
        for collection in here.list_collection_names(filter={"type": "collection"})
    }
    # A transaction's entry is one of the server, and bears the namespaces within.
    entries = client.get_database("local", codec_options=raw)["oplog.rs"].find(
        {"op": {"$ne": "n"}, "$or": [{"ns": {"$not": foreign}}, {"o.applyOps.ns": re.compile(f"^{name}[.]")}]}
    )
    return there, rows, [bytes(row.raw) for row in entries]


@pytest.mark.parametrize("name", ["cents", "sudden", "waiting", "hashed"])
def test_a_function_is_rehearsed_and_nothing_is_written(
    store: MongoStore, things: Docs, client: MongoClient[Any], source: str, name: str
) -> None:
    before = written(client, things.name)
    function(store, source, name)
    assert written(client, things.name) == before


UPDATES: dict[str, Any] = {
    "pipeline": [{"$set": {"cents": {"$multiply": ["$price", 100]}}}],
    "operators": {"$inc": {"price": 1}, "$rename": {"deep": "deeper"}},
    "failing": {"$inc": {"deep": 1}},
    "untranslatable": {"$pull": {"deep.n": 1}},
}


@pytest.mark.parametrize("update", UPDATES)
def test_an_update_is_rehearsed_and_nothing_is_written(
    store: MongoStore, things: Docs, client: MongoClient[Any], update: str
) -> None:
    things["things"].create_index("price", unique=True)
    before = written(client, things.name)
    declarative(store, UPDATES[update])
    assert written(client, things.name) == before


# what it shows is what happens


@pytest.mark.parametrize("update", ["pipeline", "operators"])
def test_an_update_comes_out_as_in_the_run(store: MongoStore, things: Docs, update: str) -> None:
    it = Migration(name="dry", collection="things", update=UPDATES[update])
    found = declarative(store, UPDATES[update])
    assert found.outcomes["changed"] == 40
    migrate(store, it)
    compare(things, found)


@pytest.mark.parametrize("name", ["cents", "doubled"])
def test_a_function_comes_out_as_in_the_run(store: MongoStore, things: Docs, source: str, name: str) -> None:
    things["things"].update_one({"_id": 99}, {"$unset": {"price": ""}})
    found = function(store, source, name)
    assert found.outcomes["changed"] >= 35
    migrate(store, load(source)[name])
    compare(things, found)


def compare(things: Docs, dry_run: DryRun) -> None:
    """Every document of the sample as it was foretold, but for the token's text."""
    raw = things.get_collection("things", codec_options=CodecOptions(document_class=RawBSONDocument))
    for each in dry_run.rehearsed:
        now = bson.decode(raw.find_one({"_id": each.key.value}).raw)  # type: ignore[union-attr]
        told = bson.decode(each.after or each.before)
        for one in (now, told):
            for name in one.get("_whimbrel", {}):
                one["_whimbrel"][name] = ""
        assert list(now.items()) == list(told.items())


def test_diffs_name_each_path_with_both_values(store: MongoStore, things: Docs) -> None:
    found = declarative(
        store, [{"$set": {"price": {"$toString": "$price"}, "deep.m": 5}}, {"$unset": "deep.n"}]
    )
    told = edits(found, found.differences[0].key.value)
    price = json_util.object_hook(told["price"][1])
    assert told["price"] == ("changed", {"$numberDouble": str(price)}, f"{price:g}")
    assert told["deep.m"] == ("added", None, {"$numberInt": "5"})
    assert told["deep.n"][0] == "removed"
    assert told["_whimbrel"][0] == "added"
    assert found.touched == {"price", "deep.m", "deep.n"}


def test_outcomes_and_failures_of_a_function(store: MongoStore, things: Docs, source: str) -> None:
    things["things"].update_many({"_id": {"$lt": 3}}, {"$unset": {"price": ""}})
    things["things"].update_one({"_id": 3}, {"$set": {"price": 0}})
    found = function(store, source, "cents", size=100)
    assert found.outcomes == {
        "changed": 96,
        "unchanged": 0,
        "skipped": 1,
        "failed": 3,
        "not shown": 0,
        "not reached": 0,
    }
    [group] = found.failures
    assert (group.count, group.example.type, group.example.message) == (3, "KeyError", "'price'")
    assert "dry_functions.py" in group.example.traceback
    assert (found.selected.exact, found.selected.how, found.batches) == (100, "counted", 1)
    assert (found.deterministic.holds, found.idempotent.holds) == (True, True)


def test_a_function_that_hangs_or_dies_is_named_and_kills_nothing(
    store: MongoStore, things: Docs, source: str
) -> None:
    found = function(store, source, "sudden", size=20)
    kinds = {each.key.value: each.failure.kind for each in found.rehearsed if each.failure}
    assert kinds == {2: FailureKind.DEATH, 3: FailureKind.HANG, 4: FailureKind.CODE}
    assert found.outcomes["changed"] == 17


def test_an_async_function_is_cancelled_and_the_others_are_shown(
    store: MongoStore, things: Docs, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(function_caller, "CANCEL_SECONDS", 60.0)  # however late it is cancelled
    found = function(store, source, "waiting", size=20)
    assert found.outcomes["changed"] == 19
    [group] = found.failures
    assert (group.example.key, group.example.type) == (Key.of(1), "TimeoutError")
    other = next(each for each in found.differences if each.key != Key.of(1))
    assert edits(found, other.key.value)["tags"] == ("added", None, ["new"])
    assert found.idempotent.holds is False
    assert "_whimbrel.waiting_v1" in found.idempotent.why


def test_the_time_of_a_dry_run_is_bounded(store: MongoStore, things: Docs, source: str) -> None:
    found = function(store, source, "sudden", size=20, seconds=0.0)
    assert found.outcomes["not reached"] == 20
    assert found.deterministic.holds is None


@pytest.mark.parametrize("name", ["stamped", "hashed"])
def test_what_is_not_deterministic_is_found(store: MongoStore, things: Docs, source: str, name: str) -> None:
    """Also what differs between two processes only: the order of a set."""
    assert function(store, source, name).deterministic.holds is False


def test_moving_parts_of_an_update_are_named(store: MongoStore, things: Docs) -> None:
    found = declarative(
        store, [{"$set": {"at": "$$NOW", "luck": {"$rand": {}}, "text": {"$literal": "$$NOW"}}}]
    )
    assert found.deterministic.holds is False
    assert "$$NOW, $rand: 40 of 40" in found.deterministic.why
    assert declarative(store, {"$currentDate": {"at": True}}).deterministic.holds is False
    fixed = declarative(store, [{"$set": {"text": {"$literal": "$$NOW"}}}])
    assert fixed.deterministic.holds is True


def test_what_is_applied_twice_is_told(store: MongoStore, things: Docs) -> None:
    assert declarative(store, {"$set": {"a": 1}}).idempotent.holds is True
    found = declarative(store, {"$inc": {"n": 1}})
    assert (found.idempotent.holds, found.deterministic.holds) == (False, True)
    assert "_whimbrel.dry_v1" in found.idempotent.why


def test_operators_without_an_equivalent_are_counted_not_guessed(store: MongoStore, things: Docs) -> None:
    found = declarative(store, {"$pull": {"deep.n": 1}})
    assert found.outcomes["not shown"] == 40
    [(reason, count)] = found.not_shown.items()
    assert count == 40
    assert reason.startswith("$pull cannot be written as a pipeline")
    assert (found.growth, found.idempotent.holds) == (None, None)


def test_a_name_that_is_there_twice_is_not_shown_to_mongodb(store: MongoStore, things: Docs) -> None:
    raw = documents(int32(1000), [field("a", int32(1)), field("a", int32(2))])
    things.get_collection("things", codec_options=CodecOptions(document_class=RawBSONDocument)).insert_one(
        RawBSONDocument(raw)
    )
    found = declarative(store, [{"$set": {"a": 3}}])
    assert found.outcomes["not shown"] == 1
    assert things.command("ping")["ok"] == 1


def test_what_mongodb_refuses_is_a_failure_with_its_code(store: MongoStore, things: Docs) -> None:
    found = declarative(store, {"$inc": {"deep": 1}})
    [group] = found.failures
    assert (group.count, group.example.type) == (40, "TypeMismatch")
    assert group.example.message == "$inc needs a number in 'deep', which is of type object"
    [other] = declarative(
        store, [{"$set": {"a": {"$toInt": {"$concat": ["x", {"$toString": "$price"}]}}}}]
    ).failures
    assert other.example.type == "ConversionFailure"
    [third] = declarative(store, [{"$replaceWith": {"_id": 5, "x": {"$literal": 1}}}]).failures
    assert third.example.type == "ImmutableField"


def test_a_replacement_keeps_its_id(store: MongoStore, things: Docs) -> None:
    found = declarative(store, [{"$replaceWith": {"x": "$price"}}])
    assert found.outcomes["changed"] == 40
    assert all(next(iter(bson.decode(each.after or b""))) == "_id" for each in found.rehearsed)


# the sample


def test_the_sample_holds_the_largest_the_oldest_the_newest_and_others(
    store: MongoStore, things: Docs
) -> None:
    things["things"].update_many({"_id": {"$in": [41, 42, 43]}}, {"$set": {"pad": "x" * 5000}})
    found = declarative(store, {"$set": {"a": 1}})
    keys = {each.key.value for each in found.rehearsed}
    assert len(found.rehearsed) == len(keys) == 40
    assert found.sample == {"largest": 10, "oldest": 10, "newest": 10, "random": 10}
    assert {0, 1, 2, 41, 42, 43, 97, 98, 99} <= keys


def test_only_eligible_documents_are_in_the_sample(store: MongoStore, things: Docs) -> None:
    things["things"].update_many({"_id": {"$lt": 90}}, {"$set": {"_whimbrel": {"dry_v1": "some.1"}}})
    found = declarative(store, {"$set": {"a": 1}}, filter_={"_id": {"$lt": 95}})
    assert {each.key.value for each in found.rehearsed} == set(range(90, 95))
    assert found.selected.exact == 5


def test_under_a_status_each_document_has_its_phase(store: MongoStore, database: Docs) -> None:
    rows = [
        {"_id": key, "status": status, "data": {}}
        for key, status in enumerate(["pending", "processing", "failed"] * 4)
    ]
    database["somemodels"].insert_many([*rows, {"_id": 99, "status": "success"}])
    it = SOME_MODEL.definition
    found = dry_run(store, it, draft_run(store, it, defaults=DEFAULTS), callers(None), workers=1)
    assert len(found.rehearsed) == 12
    for each in found.rehearsed:
        after = bson.decode(each.after or b"")
        assert after["status"] == "success"
        assert ("retryCount" in after) == (each.phase == "failed")
    assert "$$NOW, $$claimed_at" in found.deterministic.why


# what would be broken


def test_documents_that_break_the_validator(store: MongoStore, things: Docs) -> None:
    things.command("collMod", "things", validator={"price": {"$lt": 20}}, validationLevel="strict")
    found = declarative(store, [{"$set": {"price": {"$add": ["$price", 10]}}}])
    assert found.validator is not None
    wanted = {each.key for each in found.rehearsed if bson.decode(each.after or b"")["price"] >= 20}
    assert set(found.validator.keys) == wanted != set()
    assert found.validator.refuses
    things.command("collMod", "things", validationLevel="moderate", validationAction="warn")
    moderate = declarative(store, [{"$set": {"price": {"$add": ["$price", 10]}}}]).validator
    assert moderate is not None
    assert not moderate.refuses
    before = {key for key in moderate.keys if key.value / 4 >= 20}
    assert before == set()


@pytest.mark.parametrize(
    "options", [{}, {"sparse": True}, {"partialFilterExpression": {"price": {"$lt": 1000}}}], ids=str
)
def test_documents_that_break_a_unique_index(
    store: MongoStore, things: Docs, options: dict[str, Any]
) -> None:
    things["things"].create_index([("price", 1), ("deep.kind", 1)], unique=True, name="one", **options)
    clean = declarative(store, [{"$set": {"price": {"$add": ["$price", 500]}}}])
    assert list(clean.clashes) == []
    within = declarative(store, [{"$set": {"price": {"$floor": "$price"}}}])
    assert {clash.stored for clash in within.clashes} >= {False}
    assert {clash.index for clash in within.clashes} == {"one"}
    others = declarative(store, [{"$set": {"price": {"$add": ["$price", 0.25]}}}], filter_={"_id": 50})
    [clash] = others.clashes
    assert (clash.key, clash.other, clash.stored) == (Key.of(50), Key.of(51), True)


def test_a_unique_index_that_is_not_touched_is_not_asked(store: MongoStore, things: Docs) -> None:
    things["things"].create_index("price", unique=True)
    assert list(declarative(store, {"$set": {"other": 1}}).clashes) == []
    things["things"].create_index("tags", unique=True, sparse=True)
    found = declarative(store, {"$push": {"tags": 5}})
    assert list(found.unchecked) == ["the unique index tags_1 holds arrays, which are not looked at"]


def test_whether_the_filter_becomes_false(store: MongoStore, things: Docs) -> None:
    becomes = declarative(
        store, {"$unset": {"price": ""}}, filter_={"price": {"$exists": True}}, mark="filter"
    )
    assert (becomes.reselected.still, becomes.reselected.changed, becomes.reselected.filtered) == (
        0,
        40,
        True,
    )
    stays = declarative(store, {"$set": {"a": 1}}, filter_={"price": {"$exists": True}}, mark="filter")
    assert (stays.reselected.still, stays.reselected.changed) == (40, 40)
    assert declarative(store, {"$set": {"a": 1}}).reselected.filtered is False


# preflight


def test_preflight_knows_from_the_sample_what_a_function_touches(
    store: MongoStore, things: Docs, source: str
) -> None:
    things["things"].create_index("cents", unique=True, sparse=True)
    found = function(store, source, "cents")
    assert [each.check for each in found.warnings if each.level == "warning"] == ["unique-index"]
    assert dry_run_object(found)["warnings"][0]["check"] == "unique-index"
    other = function(store, source, "stamped")
    assert "unique-index" not in {each.check for each in other.warnings}


# figures


def test_growth_is_that_of_the_documents_after_the_run(store: MongoStore, things: Docs) -> None:
    update = {"$set": {"text": "x" * 100}}
    found = declarative(store, update)
    assert found.growth is not None
    before = sum(len(bson.encode(each)) for each in things["things"].find())
    migrate(store, Migration(name="dry", collection="things", update=update))
    after = sum(len(bson.encode(each)) for each in things["things"].find())
    assert abs(found.growth.projected - (after - before)) <= 200  # the batch's number in the token
    assert found.growth.largest == pytest.approx(found.growth.mean, abs=2)


def test_the_oplog_volume_is_about_what_a_run_writes(
    store: MongoStore, things: Docs, client: MongoClient[Any]
) -> None:
    update = {"$set": {"text": "x" * 100, "deep.m": 1}}
    found = declarative(store, update)
    migrate(store, Migration(name="dry", collection="things", update=update))
    raw = client.get_database("local", codec_options=CodecOptions(document_class=RawBSONDocument))["oplog.rs"]
    written = sum(len(row.raw) for row in raw.find({"op": "u", "ns": f"{things.name}.things"}))
    assert found.predicted.oplog is not None
    assert 0.7 < found.predicted.oplog.value / written < 1.4


def test_the_duration_rests_on_the_last_run_where_there_is_one(store: MongoStore, things: Docs) -> None:
    update = {"$set": {"a": 1}}
    assert "docs/benchmarks.md" in declarative(store, update).predicted.seconds.basis
    seen = migrate(store, Migration(name="dry", collection="things", update=update))
    things["things"].insert_many([{"price": 5} for _ in range(200)])
    again = declarative(store, update).predicted.seconds
    assert again.basis.startswith(f"the last run of this migration, {seen.run.id}")
    assert again.value == pytest.approx(2 * seen.seconds, rel=0.01)


def test_the_duration_rests_on_runs_of_the_same_kind(store: MongoStore, things: Docs) -> None:
    it = Migration(name="dry", collection="things", update={"$set": {"a": 1}})
    seen = migrate(store, it)
    with system(store, [it]):
        until(store, start_verification(store, seen.run.id, it.definition, who="test", defaults=DEFAULTS))
    assert store.ledger.runs.list(migration="dry", limit=1)[0].kind == "verification"
    things["things"].insert_many([{"price": 5} for _ in range(200)])
    assert seen.run.id in declarative(store, {"$set": {"a": 1}}).predicted.seconds.basis
    undone = declarative(store, {"$set": {"a": 1}}, undo=True)  # before-images cost time
    assert "docs/benchmarks.md" in undone.predicted.seconds.basis


def test_a_collection_without_eligible_documents(store: MongoStore, things: Docs, source: str) -> None:
    things["things"].delete_many({})
    for found in (declarative(store, {"$set": {"a": 1}}), function(store, source, "cents")):
        assert (found.selected.exact, len(found.rehearsed), found.batches) == (0, 0, 0)
        dry_run_object(found)


def test_before_images_of_a_run_that_can_be_undone_count_as_growth(
    store: MongoStore, things: Docs, source: str
) -> None:
    update = {"$set": {"price": 0.5}}
    plain, undo = declarative(store, update).growth, declarative(store, update, undo=True).growth
    assert plain is not None
    assert undo is not None
    assert undo.mean > plain.mean + 50
    it = Migration(name="dry", collection="things", update=update, undo=True)
    found = declarative(store, update, undo=True)
    migrate(store, it)
    sizes = {each["_id"]: len(bson.encode(each)) for each in things["things"].find()}
    told = {each.key.value: len(each.after or b"") for each in found.rehearsed}
    assert all(abs(sizes[key] - size) <= 8 for key, size in told.items())


SLOW: dict[str, Any] = {
    "$expr": {
        "$function": {"body": "function(n) { sleep(10); return true; }", "args": ["$_id"], "lang": "js"},
    }
}


def test_random_documents_of_a_collection_that_is_too_large_to_look_at(
    client: MongoClient[Any], database: Docs
) -> None:
    """A filter that takes ten milliseconds a document: all of them would take ten seconds."""
    database["things"].insert_many([{"_id": key} for key in range(1000)])
    rehearsal = MongoRehearsal(client, database.name, "things", seconds=2, slice_=1000)
    assert len(rehearsal.sample("random", SLOW, 1)) == 1
    with pytest.raises(TooSlow):
        rehearsal.sample("largest", SLOW, 1)


def test_what_is_not_found_in_time_is_said(store: MongoStore, things: Docs) -> None:
    definition = Migration(name="dry", collection="things", update={"$set": {"a": 1}}).definition
    run = draft_run(store, definition, defaults=DEFAULTS)
    slow = replace(run, filter=encoded(SLOW))
    found = dry_run(store, definition, slow, callers(None), workers=1, size=8)
    assert "the largest documents were not found in time, and are not in the sample" in found.unchecked
