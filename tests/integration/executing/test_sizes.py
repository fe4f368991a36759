"""Batches and statements get their sizes from what they take, and say so. MongoDB itself tells how many documents lie between two cuts."""

import time
from itertools import pairwise
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from whimbrel import Migration
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import run_object, view
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
MB = 1024 * 1024
INC = Migration(name="inc", collection="things", update={"$inc": {"n": 1}})
SLOW = Migration(
    name="slow",
    collection="things",
    update=[{"$set": {"n": {"$function": {"body": "function() { sleep(2); return 1; }", "args": [], "lang": "js"}}}}],
)  # fmt: skip
MEASURED = Defaults(batch_size=5000, largest_batch=50_000, max_attempts=3, retry_delay=0.05)


def adding(thing: dict[str, Any]) -> dict[str, Any]:
    """Takes its time, so that a run is sized while it works, however fast the machine is."""
    time.sleep(0.0003)
    return {"$set": {"n": thing["n"] + 1}}


ADDING = Migration(name="adding", collection="things", transform=adding)


def settled(database: Data) -> list[dict[str, Any]]:
    return list(database["whimbrel_batches"].find({"leg": 0, "work.documents": {"$gt": 0}}).sort("seq", 1))


def test_a_statement_is_about_8_mb_of_documents(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"_id": key, "n": 0, "fat": "x" * MB} for key in range(40)])
    found = migrate(store, INC)
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, 40)
    (batch,) = settled(database)
    bounds = [None, *(cut["_id"] for cut in batch["cuts"])]
    between = [
        database["things"].count_documents({"_id": {"$lte": hi, **({} if lo is None else {"$gt": lo})}})
        for lo, hi in pairwise(bounds)
    ]
    assert sum(between) == 40
    assert max(between) <= 8


def test_slow_statements_get_smaller_and_the_run_says_so(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"_id": key, "n": 0} for key in range(1500)])
    with system(store, [SLOW]):
        found = until(store, start(store, SLOW, batch_size=1000))
    assert (found.run.status, database["things"].count_documents({"n": 1})) == (RunStatus.COMPLETED, 1500)
    works = [row["work"] for row in settled(database)]
    assert all(work["limit"] == "time" and work["chunk"] <= 500 for work in works)


@pytest.mark.parametrize("it", [INC, ADDING], ids=["declared", "function"])
def test_batches_grow_where_nobody_sets_a_size(store: MongoStore, database: Data, it: Migration) -> None:
    database["things"].insert_many([{"_id": key, "n": 0} for key in range(20_000)])
    run = start_run(store, it.definition, who="test", defaults=MEASURED)
    first = 5000 if it is INC else 1000
    assert (run.batch_size, run.sizing.measured) == (first, True)
    with system(store, [it]):
        found = until(store, run)
    assert (found.counts.changed, database["things"].count_documents({"n": 1})) == (20_000, 20_000)
    sizes = [row["estimated"] for row in settled(database)]
    assert sizes[0] == first
    assert max(sizes) <= 5000
    assert it is INC or max(sizes) > first


def test_a_size_that_somebody_sets_stays(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"_id": key, "n": 0} for key in range(14_000)])
    run = start_run(store, ADDING.definition, who="test", defaults=MEASURED)
    control.adjust(store.ledger, run.id, who="test", batch_size=700)
    with system(store, [ADDING]):
        found = until(store, run)
    assert (found.run.batch_size, found.run.sizing.measured, found.counts.changed) == (700, False, 14_000)
    assert {row["estimated"] for row in settled(database)} == {700}
    seen = run_object(view(store.ledger, found.run))["sizing"]
    assert seen["why"].startswith("batches of 700: about ")
    assert "a size that was set" in seen["why"]


def test_a_size_that_is_set_at_the_same_moment_wins(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"_id": 1, "n": 0})
    run = start_run(store, ADDING.definition, who="test", defaults=MEASURED)
    control.adjust(store.ledger, run.id, who="test", batch_size=1000)  # the same number
    assert not store.ledger.runs.resize(run, 2000, run.sizing)
    now = store.ledger.runs.get(run.id)
    assert now is not None
    assert (now.batch_size, now.sizing.measured) == (1000, False)


def test_a_run_of_an_earlier_version_has_a_size_that_was_set(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"_id": key, "n": 0} for key in range(10)])
    run = start(store, INC)
    database["whimbrel_runs"].update_one({"_id": run.id}, {"$unset": {"sizing": "", "documentBytes": ""}})
    with system(store, [INC]):
        found = until(store, run)
    assert (found.run.batch_size, found.run.sizing.measured, found.counts.changed) == (
        DEFAULTS.batch_size,
        False,
        10,
    )
