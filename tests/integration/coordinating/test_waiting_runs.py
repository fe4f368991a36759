"""Runs that wait for their collection: they stop nobody, cost nothing, and begin in the order they came in."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import DEFAULTS, nothing, start, system, until
from whimbrel import Migration
from whimbrel.brokers.ledger import LedgerBroker
from whimbrel.cli.output.run_log import runs_to_report
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.coordinating.coordinator import Coordinator
from whimbrel.engine.housekeeping import stuck_batches
from whimbrel.engine.operating.control import cancel
from whimbrel.engine.operating.preflight import with_warnings
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.start import draft_run
from whimbrel.engine.queueing import queues
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.engine.queueing.queue_history import QueueSampler
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
IT = Migration(name="waiting", collection="things", update={"$set": {"a": 1}})
OTHER = Migration(name="other", collection="others", update={"$set": {"a": 1}})
MANY = 1500


def coordinator_of(store: MongoStore) -> Coordinator:
    announcer = Announcer(store.ledger, LedgerBroker(), pause=SHORT.broker)
    return Coordinator(store, announcer, name="inline", role_seconds=SHORT.lease, step=nothing)


def line_up(store: MongoStore, database: Data, run: Run, count: int) -> None:
    """So many newer runs on the same collection, queued, each with a batch that waits for its run to begin."""
    rows = database["whimbrel_runs"]
    row = rows.find_one({"_id": run.id})
    assert row is not None
    ids = [f"{run.id}-{number:05}" for number in range(count)]
    newer = {"status": "queued", "active": False, "startedAt": None}
    rows.insert_many(
        [
            {**row, **newer, "_id": name, "createdAt": row["createdAt"] + timedelta(seconds=number)}
            for number, name in enumerate(ids, 1)
        ]
    )
    store.ledger.batches.add([Batch(run=name, seq=1, leg=0, phase="pending", ids=()) for name in ids])


def test_a_run_goes_on_beside_thousands_of_newer_ones_that_wait(store: MongoStore, database: Data) -> None:
    database["things"].insert_many([{"_id": key} for key in range(600)])
    run = start(store, IT)
    coordinator_of(store).tick()
    line_up(store, database, run, MANY)
    with system(store, [IT]):
        found = until(store, run)
    assert (found.run.status, found.counts) == (RunStatus.COMPLETED, Counts(changed=600))


def test_those_that_wait_for_one_collection_hold_up_no_run_on_another(
    store: MongoStore, database: Data
) -> None:
    database["others"].insert_many([{"_id": key} for key in range(20)])
    database["things"].insert_one({"_id": 1})
    run = start(store, IT)
    coordinator_of(store).tick()
    line_up(store, database, run, MANY)
    late = start(store, OTHER)
    with system(store, [OTHER]):  # nobody has the code of the one that the others wait for
        assert until(store, late).run.status is RunStatus.COMPLETED


def test_the_oldest_that_waits_begins_when_its_collection_is_free(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"_id": 1})
    coordinator = coordinator_of(store)
    runs = [start(store, IT) for _ in range(4)]
    born = sorted(runs, key=lambda run: run.created_at)
    for first, rest in ((born[0], born[1:]), (born[1], born[2:])):
        coordinator.tick()
        assert status(store, first) is RunStatus.RUNNING
        assert {status(store, each) for each in rest} == {RunStatus.QUEUED}
        assert f"Waits for run {first.id}" in view(store.ledger, current(store, rest[0])).run.message
        cancel(store.ledger, first.id, who="test")
        coordinator.tick()
    assert status(store, born[1]) is RunStatus.CANCELLED


def test_what_is_asked_all_the_time_costs_the_same_however_many_runs_wait(
    store: MongoStore, database: Data
) -> None:
    database["things"].insert_many([{"_id": key} for key in range(600)])
    run = start(store, IT)
    coordinator, worker_state, broker = coordinator_of(store), WorkerState({}, "A", None), LedgerBroker()
    coordinator.tick()
    sampler = QueueSampler(store.ledger, broker, lambda: False)
    asked: dict[str, Callable[[], object]] = {
        "tick": coordinator.tick,
        "refresh": lambda: worker_state.refresh(store),
        "queue": lambda: queues.stats(store.ledger, broker),
        "in hand": lambda: queues.in_hand(store.ledger),
        "sampling": sampler._take_sample,
        "status": lambda: view(store.ledger, current(store, run)),
        "ahead": lambda: store.ledger.runs.ahead(run.ns),
    }
    few = {name: looked_at(database, ask) for name, ask in asked.items()}
    line_up(store, database, run, MANY)
    many = {name: looked_at(database, ask) for name, ask in asked.items()}
    assert {name: number for name, number in many.items() if number > few[name] + 20} == {}


def test_a_run_that_joins_a_long_line_is_no_larger_than_others(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"_id": 1})
    run = start(store, IT)
    coordinator_of(store).tick()
    line_up(store, database, run, MANY)
    it = IT.definition
    last = with_warnings(store, it, draft_run(store, it, defaults=DEFAULTS), documents=1)
    (said,) = [each for each in last.warnings if each.check == "runs"]
    assert f"{run.id} of waiting (running)" in said.reason
    assert f"and {MANY - 4:,} more" in said.reason
    assert len(json.dumps(said.detail)) < 1000


def test_a_worker_tells_of_the_run_at_work_beside_newer_ones_that_wait(
    store: MongoStore, database: Data
) -> None:
    database["things"].insert_one({"_id": 1})
    run = start(store, IT)
    coordinator = coordinator_of(store)
    coordinator.tick()
    line_up(store, database, run, MANY)
    watched = {each.id: each.status for each in runs_to_report(store.ledger, [])}
    assert watched[run.id] is RunStatus.RUNNING
    cancel(store.ledger, run.id, who="test")
    coordinator.tick()
    then = {each.id: each.status for each in runs_to_report(store.ledger, list(watched.items()))}
    assert then[run.id] is RunStatus.CANCELLED


def test_what_hangs_is_told_from_what_waits(store: MongoStore, database: Data) -> None:
    database["things"].insert_one({"_id": 1})
    run = start(store, IT)
    coordinator_of(store).tick()
    line_up(store, database, run, MANY)
    announcer = Announcer(store.ledger, LedgerBroker(), pause=SHORT.broker)
    _, stuck = stuck_batches.release_stuck(store, announcer, who="test")
    said = {each.run.id: each.reasons for each in stuck}
    assert said.pop(run.id)
    assert said == {
        f"{run.id}-00000": (
            f"It waits for run {run.id}, which holds {run.ns}. Behind it wait {MANY - 1:,} more.",
        )
    }


def looked_at(database: Data, ask: Callable[[], object]) -> int:
    """Documents and keys of indexes that the server has looked at for a question."""
    before = scanned(database)
    ask()
    return scanned(database) - before


def scanned(database: Data) -> int:
    found = database.client.admin.command("serverStatus")["metrics"]["queryExecutor"]
    return int(found["scanned"] + found["scannedObjects"])


def current(store: MongoStore, run: Run) -> Run:
    found = store.ledger.runs.get(run.id)
    assert found is not None
    return found


def status(store: MongoStore, run: Run) -> RunStatus:
    return current(store, run).status
