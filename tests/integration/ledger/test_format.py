"""A ledger of an earlier format is upgraded and its runs are finished rightly; one of a newer format is refused."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import system, until
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.errors import LedgerFormat
from whimbrel.mongo.ledger.format import STEPS
from whimbrel.mongo.store import MongoStore, connected
from whimbrel.workers.migration_loader import load

Data = Database[dict[str, Any]]
DUMPS = Path(__file__).parents[2] / "data"
RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)
NOW = 4


def restore(database: Data, format_: int) -> None:
    """A dump of runs that were paused in the middle, by the program of that format."""
    for path in (DUMPS / f"ledger-format-{format_}").glob("*.bson.gz"):
        rows = bson.decode_all(gzip.decompress(path.read_bytes()), RAW)
        name = path.name.removesuffix(".bson.gz")
        database.get_collection(name, codec_options=RAW).insert_many(rows)
    # The runs are about the database that they were dumped from.
    database["whimbrel_runs"].update_many(
        {},
        [
            {
                "$set": {
                    "rate": None,
                    "database": database.name,
                    "ns": {"$concat": [database.name, ".", "$collection"]},
                }
            }
        ],
    )
    for it in database.list_collections(filter={"name": {"$in": ["numbers", "things", "jobs", "notes"]}}):
        bound = {"collection": it["name"], "collectionUuid": {"$exists": True}}
        database["whimbrel_runs"].update_one(bound, {"$set": {"collectionUuid": it["info"]["uuid"]}})


def test_there_is_a_dump_of_each_earlier_format() -> None:
    assert sorted(STEPS) == list(range(1, NOW))
    assert all((DUMPS / f"ledger-format-{each}" / "whimbrel_runs.bson.gz").exists() for each in STEPS)


@pytest.fixture
def reopened(mongo_uri: str, database: Data) -> Callable[[], Any]:
    return lambda: connected(mongo_uri, database.name, SHORT)


@pytest.mark.parametrize("format_", list(STEPS))
def test_runs_of_an_earlier_format_are_finished_rightly(
    database: Data, reopened: Callable[[], Any], format_: int
) -> None:
    restore(database, format_)
    with reopened() as store:
        assert database["whimbrel_format"].find_one({}) == {"_id": "format", "format": NOW}
        assert database["whimbrel_audit"].count_documents({"what": {"$regex": "ledger upgraded"}}) == NOW - 1
        migrations = load(str(DUMPS / "ledger-format-1/migrations.py"))
        runs = {run.migration: run for run in store.ledger.runs.list()}
        assert store.ledger.failures.counts(runs["function"].id)["open"] == 20
        (group,) = store.ledger.failures.groups(runs["function"].id).groups
        assert (group.type, group.open, len(store.ledger.failures.list(runs["function"].id))) == (
            "ValueError",
            20,
            20,
        )
        assert sorted(runs) == ["by-filter", "by-status", "declared", "function"]
        for name, run in runs.items():
            assert run.status is RunStatus.PAUSED
            control.resume(store.ledger, run.id, who="test", code=migrations[name].definition)
        with system(store, list(migrations.values())):
            ended = {name: until(store, run) for name, run in runs.items()}
    assert {name: str(it.run.status) for name, it in ended.items()} == {
        "by-filter": "completed", "by-status": "completed", "declared": "completed", "function": "completed_with_failures",
    }  # fmt: skip
    # What is right, by a plain loop over what was put in.
    assert [each["n"] for each in database["numbers"].find(sort=[("_id", 1)])] == [
        at + 1 for at in range(2000)
    ]
    bad = [at for at in range(2000) if at % 40 == 7]
    doubled = {each["_id"]: each.get("double") for each in database["things"].find()}
    assert doubled == {at: None if at in bad else at * 2 for at in range(2000)}
    assert database["jobs"].count_documents({"status": "success", "done": True}) == 2000
    assert database["notes"].count_documents({"seen": True}) == 2000
    counts = {name: it.run.counts.changed for name, it in ended.items()}
    assert counts == {"by-filter": 2000, "by-status": 2000, "declared": 2000, "function": 2000 - len(bad)}
    assert ended["function"].failures["dead"] == len(bad)
    assert database["whimbrel_failures"].count_documents({"group": {"$exists": False}}) == 0
    assert not any(it.run.inferred for name, it in ended.items() if name != "by-filter")


def test_an_upgrade_that_was_cut_off_is_done_again(database: Data, reopened: Callable[[], Any]) -> None:
    restore(database, 1)
    STEPS[1](database, database["whimbrel_runs"])  # died before the number was written
    before = list(database["whimbrel_runs"].find(sort=[("_id", 1)]))
    with reopened():
        assert list(database["whimbrel_runs"].find(sort=[("_id", 1)])) == before
    assert {bytes(each["collectionUuid"]) for each in before} == {
        bytes(each["info"]["uuid"]) for each in database.list_collections(filter={"name": {"$in": ["numbers", "things", "jobs", "notes"]}})
    }  # fmt: skip


def test_failures_are_grouped_once_however_often_that_is_done(
    database: Data, reopened: Callable[[], Any]
) -> None:
    restore(database, 2)
    with reopened():
        kept = [
            list(database[f"whimbrel_{name}"].find({}, {"marks": 0, "failing.marks": 0}))
            for name in ("failures", "causes", "batches")
        ]
    database["whimbrel_failures"].update_many({"key._id": {"$lt": 300}}, {"$unset": {"group": ""}})
    database["whimbrel_format"].update_one({}, {"$set": {"format": 2}})  # died in the middle
    with reopened():
        again = [
            list(database[f"whimbrel_{name}"].find({}, {"marks": 0, "failing.marks": 0}))
            for name in ("failures", "causes", "batches")
        ]
    assert again == kept


def test_workers_of_an_earlier_format_must_end_first(database: Data, reopened: Callable[[], Any]) -> None:
    restore(database, 1)
    database["whimbrel_workers"].update_one(
        {"_id": "old"}, [{"$set": {"seenAt": "$$NOW", "host": "db7", "pid": 4711}}], upsert=True
    )
    with pytest.raises(LedgerFormat, match=r"db7:4711.*Stop them first"), reopened():
        pass
    assert database["whimbrel_format"].count_documents({}) == 0
    database["whimbrel_workers"].delete_one({"_id": "old"})
    with reopened():
        pass


def test_a_newer_ledger_is_refused_in_one_sentence(database: Data, reopened: Callable[[], Any]) -> None:
    database["whimbrel_format"].insert_one({"_id": "format", "format": NOW + 1})
    with (
        pytest.raises(LedgerFormat, match=rf"has format {NOW + 1}; this Whimbrel knows formats up to {NOW}"),
        reopened(),
    ):
        pass


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning"
)  # so the coordinator ends here
def test_a_process_whose_ledger_was_upgraded_meanwhile_ends(store: MongoStore, database: Data) -> None:
    database["things"].insert_many({"_id": at} for at in range(10))
    with system(store, []) as worker_state:
        database["whimbrel_format"].replace_one({"_id": "format"}, {"format": NOW + 1}, upsert=True)
        assert worker_state.stopping.wait(30)


def test_what_only_looks_writes_no_number(mongo_uri: str, database: Data) -> None:
    with connected(mongo_uri, database.name, SHORT) as store:
        assert store.ledger.runs.list() == []
    assert database.list_collection_names() == []
