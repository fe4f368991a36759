"""Starting a run where something cannot be known, and many runs that wait for one."""

from dataclasses import replace
from typing import Any

import pytest
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import nothing
from whimbrel import Migration
from whimbrel.brokers.ledger import LedgerBroker
from whimbrel.domain.bson.encoding import encoded
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.coordinating.coordinator import Coordinator
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.start import Defaults, draft_run, has_documents
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.mongo.store import MongoStore
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.settings import Settings

Docs = Database[dict[str, Any]]
SLOW: dict[str, Any] = {
    "$expr": {
        "$function": {"body": "function(n) { sleep(10); return false; }", "args": ["$_id"], "lang": "js"}
    }
}


def test_whether_anything_matches_is_taken_for_likely_where_it_takes_too_long(
    store: MongoStore, database: Docs
) -> None:
    database["somemodels"].insert_many([{"status": "pending"} for _ in range(300)])
    run = draft_run(store, SOME_MODEL.definition, defaults=Defaults(), filter_={"status": "pending"})
    assert has_documents(store, replace(run, filter=encoded(SLOW)))  # three seconds, and half a one is given
    assert has_documents(store, run)
    assert not has_documents(store, replace(run, filter=encoded({"n": 1})))


def test_only_declared_updates_of_large_collections_get_larger_batches(
    store: MongoStore, database: Docs
) -> None:
    database["things"].insert_many([{"n": n} for n in range(2000)])
    declared = Migration(name="m", collection="things", update={"$set": {"a": 1}})
    sized = Migration(name="m", collection="things", update={"$set": {"a": 1}}, batch_size=7)
    function = Migration(name="m", collection="things", transform=lambda thing: thing)
    growing, fixed = Defaults(batch_size=10, largest_batch=100), Defaults(batch_size=10)

    def size(it: Migration, defaults: Defaults, **options: Any) -> int:
        return draft_run(store, it.definition, defaults=defaults, **options).batch_size

    assert [size(declared, growing), size(declared, fixed)] == [50, 10]
    assert [size(sized, growing), size(function, growing), size(declared, growing, batch_size=3)] == [
        7,
        10,
        3,
    ]
    database["things"].insert_many([{"n": n} for n in range(4000)])
    assert size(declared, growing) == 100
    database["things"].delete_many({"n": {"$gt": 10}})
    assert size(declared, growing) == 10


def test_a_batch_size_that_is_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATCH_SIZE", raising=False)
    assert Settings().defaults.batch_size_of(declarative=True, documents=10**8) == 50_000
    monkeypatch.setenv("BATCH_SIZE", "5000")
    assert Settings().defaults.batch_size_of(declarative=True, documents=10**8) == 5000


def questions(database: Docs, coordinator: Coordinator) -> int:
    """What one tick asks the ledger's runs, as MongoDB counts it."""
    database.command("profile", 2)
    coordinator.tick()
    database.command("profile", 0)
    count = database["system.profile"].count_documents({"ns": f"{database.name}.whimbrel_runs"})
    database["system.profile"].drop()
    return count


def test_runs_that_are_known_to_wait_cost_no_questions(store: MongoStore, database: Docs) -> None:
    database["somemodels"].insert_many([{"status": "pending"} for _ in range(5)])
    announcer = Announcer(store.ledger, LedgerBroker(), pause=SHORT.broker)
    coordinator = Coordinator(store, announcer, name="inline", role_seconds=SHORT.lease, step=nothing)
    runs = [draft_run(store, SOME_MODEL.definition, defaults=Defaults()) for _ in range(31)]
    for run in runs[:2]:
        store.ledger.runs.add(run, "test")
    coordinator.tick()
    few = questions(database, coordinator)
    for run in runs[2:]:
        store.ledger.runs.add(run, "test")
    coordinator.tick()
    waiting = store.ledger.runs.list(statuses=[RunStatus.QUEUED], limit=100)
    assert len(waiting) == 30
    said = {view(store.ledger, each).run.message for each in waiting}
    assert said == {f"Waits for run {runs[0].id}, which works on {runs[0].ns}."}
    assert questions(database, coordinator) <= few
