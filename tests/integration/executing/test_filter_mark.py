"""Mark "filter" leaves nothing in the documents: what its counts rest on after a crash, and what happens when the filter stays true (H49)."""

import time
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import start, system, until
from whimbrel import Migration, migration
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating import control
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
DECLARED = Migration(
    name="m", collection="things", mark="filter", filter={"n": 0}, update={"$inc": {"n": 1}}, batch_size=100
)


@migration(name="m", collection="things", mark="filter", filter={"n": 0}, batch_size=100)
def function(document: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {"n": 1}}


def seed(database: Data, *, eligible: int = 100, others: int = 50) -> None:
    rows = [{"_id": at, "n": 0} for at in range(eligible)]
    database["things"].insert_many(rows + [{"_id": 1000 + at, "n": 7} for at in range(others)])


def claimed(store: MongoStore, it: Migration) -> tuple[Run, Batch]:
    """A run whose first batch a worker has claimed, and nobody else."""
    run = start(store, it)
    with system(store, [it], slots=0):
        end = time.monotonic() + 30
        while not store.ledger.batches.count(run.id, [BatchStatus.QUEUED]):
            assert time.monotonic() < end
            time.sleep(0.02)
    batch = store.ledger.batches.claim([run.id], worker="dead", lsid=bytes(16))
    assert batch is not None
    return run, batch


@pytest.mark.parametrize("it", [DECLARED, function], ids=["declared", "function"])
def test_h49_what_a_dead_worker_changed_is_counted(store: MongoStore, database: Data, it: Migration) -> None:
    seed(database)
    run, batch = claimed(store, it)
    database["things"].update_many({"_id": {"$lt": 40}}, {"$set": {"n": 1}})  # as that worker has
    store.ledger.batches.release(batch)
    with system(store, [it]):
        found = until(store, run)
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, 100)
    assert found.run.inferred
    assert database["things"].count_documents({"n": 1}) == 100


def test_what_nobody_remembers_is_not_made_up(store: MongoStore, database: Data) -> None:
    seed(database)
    run, batch = claimed(store, DECLARED)
    database["things"].update_many({"_id": {"$lt": 40}}, {"$set": {"n": 1}})
    store.ledger.batches.release(batch)
    long_ago = {"$set": {"began": database.client.admin.command("ping")["operationTime"].__class__(1, 1)}}
    database["whimbrel_batches"].update_one({"_id": batch.token}, long_ago)
    with system(store, [DECLARED]):
        found = until(store, run)
    assert (found.run.status, found.run.inferred) == (RunStatus.COMPLETED, True)
    assert found.counts.changed == 0
    assert database["things"].count_documents({"n": 1}) == 100


def test_a_batch_that_is_given_back_needs_nobodys_memory(store: MongoStore, database: Data) -> None:
    """Its run may rest for longer than MongoDB remembers: what it has done stands in its row, and the rest is untouched."""
    seed(database)

    @migration(name="m", collection="things", mark="filter", filter={"n": 0}, batch_size=100)
    def slow(document: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.05)
        return {"$set": {"n": 1}}

    run = start(store, slow)
    with system(store, [slow], slots=1):
        end = time.monotonic() + 30
        while not database["things"].count_documents({"n": 1}):
            assert time.monotonic() < end
            time.sleep(0.02)
        control.pause(store.ledger, run.id, who="test")
        until(store, run, RunStatus.PAUSED)
    [batch] = [each for each in store.ledger.batches.list(run.id) if each.phase == "pending" and each.claims]
    assert (batch.status, batch.fresh) == (BatchStatus.QUEUED, True)
    assert batch.progress.counts.changed == database["things"].count_documents({"n": 1})
    control.resume(store.ledger, run.id, who="test")
    with system(store, [slow]):
        found = until(store, run)
    assert found.counts.changed == 100


@pytest.mark.parametrize("others", [0, 30, 2000], ids=["all", "a few before", "many before"])
def test_a_filter_that_stays_true_ends_the_run_before_anything_is_changed_twice(
    store: MongoStore, database: Data, others: int
) -> None:
    database["things"].insert_many(
        [{"_id": at - others, "n": 0 if at >= others else 7} for at in range(others + 100)]
    )
    wrong = Migration(
        name="m",
        collection="things",
        mark="filter",
        filter={"n": {"$lt": 5}},
        update={"$inc": {"n": 1}},
        batch_size=5000,
    )
    with system(store, [wrong]):
        found = until(store, start(store, wrong)).run
    assert found.status is RunStatus.FAILED
    assert found.error is not None
    assert "still match the filter" in found.error
    assert database["things"].count_documents({"n": 1}) == 100
