"""What a run's statements look at, by MongoDB's own profiler: none needs the whole collection, and all together few passes over it (H61)."""

import random
from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson import MaxKey, MinKey, ObjectId
from pymongo.database import Database

from tests.integration.guarded_writes import Hand
from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from tests.integration.profiling import profiled
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.start import draft_run, has_documents, preview
from whimbrel.engine.operating.start_cleanup import measure_cleanup, start_cleanup
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.mongo.ranges import within
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]

COUNT, BATCH = 6000, 200
UPDATE = {"$inc": {"n": 1}}
IDS: dict[str, Callable[[int], Any]] = {
    "int": lambda at: at,
    "ObjectId": lambda at: ObjectId(f"{at:024x}"),
    "string": lambda at: f"{at:08}",
    "mixed": lambda at: (at, f"{at:08}", ObjectId(f"{at:024x}"), float(at) + 0.5)[at % 4],
}


def _one_more(document: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {"n": document["n"] + 1}}


LIVES = {
    "marker, declared": Migration(name="m", collection="things", update=UPDATE),
    "marker, function": Migration(name="m", collection="things", transform=_one_more),
    "filter, declared": Migration(
        name="m", collection="things", update=UPDATE, mark="filter", filter={"n": 0}
    ),
    "filter, function": Migration(
        name="m", collection="things", transform=_one_more, mark="filter", filter={"n": 0}
    ),
    "status, declared": Migration(name="m", collection="things", update=UPDATE, mark="status"),
    "status, function": Migration(name="m", collection="things", transform=_one_more, mark="status"),
}


def seed(database: Data, count: int = COUNT, *, ids: str = "int") -> None:
    key = IDS[ids]
    database["things"].insert_many(
        [{"_id": key(at), "n": 0, "kind": "rare" if at % 300 == 0 else "common", "status": "pending"} for at in range(count)]
    )  # fmt: skip


@pytest.mark.parametrize("life", LIVES)
def test_a_run_needs_no_statement_over_the_collection(store: MongoStore, database: Data, life: str) -> None:
    seed(database)
    with profiled(database) as looks:
        found = migrate(store, LIVES[life], batch_size=BATCH)
    assert found.run.status is RunStatus.COMPLETED
    assert database["things"].count_documents({"n": 1}) == COUNT
    looks.check(BATCH, 2.5, COUNT)


@pytest.mark.parametrize("ids", IDS)
def test_nor_does_it_for_any_kind_of_id(store: MongoStore, database: Data, ids: str) -> None:
    seed(database, 2000, ids=ids)
    with profiled(database) as looks:
        migrate(store, LIVES["marker, declared"], batch_size=50)
    assert database["things"].count_documents({"n": 1}) == 2000
    looks.check(50, 2.5, 2000)


def _verify(store: MongoStore, run: Run) -> Run:
    return start_verification(store, run.id, None, who="test", defaults=DEFAULTS, batch_size=BATCH)


def _roll_back(store: MongoStore, run: Run) -> Run:
    return start_rollback(store, run.id, who="test", defaults=DEFAULTS, batch_size=BATCH)


def _clean_up(store: MongoStore, run: Run) -> Run:
    assert measure_cleanup(store, run.id).documents == COUNT
    return start_cleanup(store, run.id, who="test", defaults=DEFAULTS)


FOLLOWING = {"verify": _verify, "rollback": _roll_back, "cleanup": _clean_up}


@pytest.mark.parametrize("following", FOLLOWING)
@pytest.mark.parametrize("life", ["marker, declared", "status, function"])
def test_nor_what_follows_a_run(store: MongoStore, database: Data, life: str, following: str) -> None:
    seed(database)
    it = LIVES[life]
    undone = Migration(
        name="m", collection="things", mark=it.definition.mark, undo=True, update=it.definition.update, transform=it.transform
    )  # fmt: skip
    with system(store, [undone]):
        run = until(store, start(store, undone, batch_size=BATCH)).run
        with profiled(database) as looks:
            found = until(store, FOLLOWING[following](store, run))
    assert found.run.status is RunStatus.COMPLETED
    looks.check(found.run.batch_size, 2.5, COUNT)


def test_nor_looking_ahead(store: MongoStore, database: Data) -> None:
    seed(database)
    database["things"].update_many({"_id": {"$gte": 0}}, {"$set": {"n": 1}})
    it = LIVES["filter, declared"].definition
    run = start(store, LIVES["filter, declared"], batch_size=BATCH)
    with profiled(database) as looks:
        assert preview(store, run, seconds=60).total == 0
        assert has_documents(store, run) is False
        store.warnings(run, it, _ahead())
        store.errors(run, it)
    looks.check(BATCH, 2.5, COUNT)


def _ahead() -> Any:
    from whimbrel.ports import Ahead  # noqa: PLC0415

    return Ahead(documents=None, touched=None)


def test_nor_a_retry(store: MongoStore, database: Data) -> None:
    seed(database)
    database.command("collMod", "things", validator={"$or": [{"n": {"$lt": 1}}, {"kind": "common"}]})
    it = LIVES["marker, declared"]
    with system(store, [it]):
        found = until(store, start(store, it, batch_size=BATCH))
        assert found.failures["dead"] == COUNT / 300
        database.command("collMod", "things", validator={})
        with profiled(database) as looks:
            control.retry(store.ledger, found.run.id, who="test")
            until(store, found.run, RunStatus.COMPLETED)
    assert database["things"].count_documents({"n": 1}) == COUNT
    looks.check(BATCH, 0.1, COUNT)


INDEXES: dict[str, tuple[list[tuple[str, Any]], dict[str, Any]]] = {
    "equality": ([("kind", 1)], {"kind": "rare"}),
    "range": ([("at", 1)], {"at": {"$lt": 20}}),
    "either": ([("at", 1)], {"$or": [{"at": {"$lt": 10}}, {"at": {"$gte": 5990}}]}),
    "ids": ([("at", 1)], {"_id": {"$in": list(range(0, 6000, 300))}}),
    "range of ids": ([("at", 1)], {"_id": {"$gte": 100, "$lt": 120}}),
}


@pytest.mark.parametrize(
    ("life", "index"),
    [
        *((life, "equality") for life in LIVES),
        *(("marker, declared", index) for index in INDEXES if index != "equality"),
    ],
)
def test_few_documents_of_an_index_are_found_by_it(
    store: MongoStore, database: Data, life: str, index: str
) -> None:
    fields, query = INDEXES[index]
    seed(database)
    database["things"].update_many({}, [{"$set": {"at": "$_id"}}])
    database["things"].create_index(fields)
    it = LIVES[life].definition
    narrower = {"n": 0, **query} if it.mark == "filter" else query
    migration = Migration(name="m", collection="things", mark=it.mark, filter=narrower, update=it.update, transform=LIVES[life].transform)  # fmt: skip
    wanted = sorted(each["_id"] for each in database["things"].find(query))
    assert len(wanted) == 20
    with profiled(database) as looks:
        found = migrate(store, migration, batch_size=BATCH)
    assert found.run.status is RunStatus.COMPLETED, found.run.message
    assert sorted(each["_id"] for each in database["things"].find({"n": 1})) == wanted
    assert found.counts.changed == 20
    if it.mark != "status":  # whose phases processing and failed no index answers here
        assert looks.documents() < 2000  # of it about 1,000 in samples, and each of the twenty some times


@pytest.mark.parametrize("life", ["marker, declared", "marker, function", "filter, declared"])
@pytest.mark.parametrize("listed", [1500, 5000], ids=["some", "most"])
def test_a_list_of_ids_costs_what_it_lists_and_travels_once(
    store: MongoStore, database: Data, life: str, listed: int
) -> None:
    seed(database)
    ids = list(range(COUNT))
    random.Random(3).shuffle(ids)
    ids = ids[:listed]
    it = LIVES[life].definition
    narrower = {"_id": {"$in": ids}, **({"n": 0} if it.mark == "filter" else {})}
    migration = Migration(name="m", collection="things", mark=it.mark, filter=narrower, update=it.update, transform=LIVES[life].transform)  # fmt: skip
    assert preview(store, draft_run(store, migration.definition, defaults=DEFAULTS)).estimated == listed
    with profiled(database) as looks:
        found = migrate(store, migration, batch_size=BATCH)
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, listed)
    assert sorted(each["_id"] for each in database["things"].find({"n": 1})) == sorted(ids)
    assert looks.documents() <= 8 * listed
    if it.declarative:
        largest = max(len(bson.encode(each["command"])) for each in looks.rows() if each["op"] == "update")
        assert largest < 3 * len(bson.encode({"ids": ids[:BATCH]}))


def test_a_filter_of_which_an_index_yields_most_goes_by_ranges(store: MongoStore, database: Data) -> None:
    seed(database)
    database["things"].create_index("kind")
    with profiled(database) as looks:
        found = migrate(
            store, Migration(name="m", collection="things", filter={"kind": "common"}, update=UPDATE), batch_size=BATCH
        )  # fmt: skip
    assert found.counts.changed == COUNT - 20
    assert all(row.ids is None for row in store.ledger.batches.list(found.run.id))
    looks.check(BATCH, 2.5, COUNT)


@pytest.mark.parametrize("kind", ["first", "last", "both", "mixed"])
def test_h61_statements_are_bounded_also_where_their_range_is_open(database: Data, kind: str) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": at, "n": 0} for at in range(300)])
    where, inside = {
        "first": (Range(None, Key.of(9)), 10),
        "last": (Range(Key.of(289), None), 10),
        "both": (Range(Key.of(9), Key.of(19)), 10),
        "mixed": (Range(Key.of(289), Key.of("a")), 10),
    }[kind]
    fence = {"$lt": ["$$NOW", hand.terms().until]}
    for query in ({}, {"n": 0}, {"$or": [{"n": 0}, {"m": 1}]}, {"$expr": {"$lt": ["$n", 5]}}):
        statement = {
            "q": within(query, where, fence), "u": {"$set": {"n": 0}}, "multi": True, "hint": "_id_", "collation": {"locale": "simple"},
        }  # fmt: skip
        for command in (
            {"update": "things", "updates": [statement]},
            {"find": "things", "filter": within(query, where), "hint": "_id_"},
        ):
            found = database.command("explain", command, verbosity="executionStats")["executionStats"]
            assert found["totalDocsExamined"] == inside, (query, command)
            assert found["totalKeysExamined"] <= inside + 1


def test_h61_the_ends_of_all_types_are_inside_open_ranges(database: Data) -> None:
    hand = Hand(database)
    hand.collection.insert_many([{"_id": each} for each in (MinKey(), 1, "a", MaxKey())])
    for where, wanted in ((Range(None, Key.of(1)), 2), (Range(Key.of(1), None), 2), (Range(None, None), 4)):
        assert hand.documents.count(where, {}) == wanted


def test_a_statement_that_cannot_be_made_smaller_pauses_the_run_and_is_told(
    store: MongoStore, database: Data
) -> None:
    """The application holds a document in a transaction: a statement on it waits until its time is over."""
    database["things"].insert_many([{"_id": at, "n": 0} for at in range(50)])
    it = LIVES["marker, declared"]
    with database.client.start_session() as session, session.start_transaction():
        database["things"].update_one({"_id": 30}, {"$set": {"held": True}}, session=session)
        with system(store, [it]):
            run = start(store, it)
            found = until(store, run, RunStatus.PAUSED).run
            assert database["things"].count_documents({"n": 1}) >= 30
            assert found.error is not None
            assert "8 times in a row" in found.error
            assert '"update": "things"' in found.error
            assert "IXSCAN" in found.error
            session.abort_transaction()
            control.resume(store.ledger, run.id, who="test")
            until(store, run, RunStatus.COMPLETED)
    assert database["things"].count_documents({"n": 1}) == 50


@pytest.mark.parametrize("name", [None, "by the key"])
@pytest.mark.parametrize("life", ["marker, declared", "marker, function", "status, function"])
def test_a_clustered_collection_is_migrated_whatever_its_index_is_called(
    store: MongoStore, database: Data, life: str, name: str | None
) -> None:
    index: dict[str, Any] = {"key": {"_id": 1}, "unique": True}
    database.create_collection("things", clusteredIndex=index | ({"name": name} if name else {}))
    seed(database, 2000)
    found = migrate(store, LIVES[life], batch_size=BATCH)
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, 2000)
    assert database["things"].count_documents({"n": 1}) == 2000
