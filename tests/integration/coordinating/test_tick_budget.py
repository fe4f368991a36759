"""H67 and H68: a tick takes as long as it may, however many batches a run has; the few among many are found by themselves."""

from datetime import timedelta
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.coordinating.test_waiting_runs import looked_at
from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from tests.integration.running.test_races import coordinator_of, fresh
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.coordinating import cancelled_runs
from whimbrel.engine.coordinating import coordinator as coordinate
from whimbrel.engine.operating.control import cancel
from whimbrel.engine.operating.start_cleanup import start_cleanup
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.errors import StateForbids
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
IT = Migration(name="many", collection="things", update={"$set": {"a": 1}})
MANY = 2500


def with_batches(store: MongoStore, database: Data, count: int, **fields: Any) -> Run:
    """A run at work that has so many queued batches."""
    database["things"].insert_many([{"_id": key} for key in range(20)])
    run = start(store, IT)
    assert store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    store.ledger.batches.add(
        [
            Batch(
                run=run.id, seq=seq, leg=0, phase="pending", lo=Key.of(seq - 1), cuts=(Key.of(seq),), **fields
            )
            for seq in range(1, count + 1)
        ]
    )
    return run


def updates(database: Data) -> int:
    return int(database.client.admin.command("serverStatus")["opcounters"]["update"])


def cancelled(store: MongoStore, run: Run) -> int:
    return store.ledger.batches.count(run.id, [BatchStatus.CANCELLED])


def test_a_cancelled_run_of_very_many_batches_holds_up_no_other(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelled_runs, "SECONDS", 0.0)  # a page in each tick
    run, coordinator = with_batches(store, database, MANY), coordinator_of(store)
    cancel(store.ledger, run.id, who="test")
    database["others"].insert_one({"_id": 1})
    other = start(store, Migration(name="other", collection="others", update={"$set": {"a": 1}}))
    before = updates(database)
    coordinator.tick()
    assert updates(database) - before < 30  # not one for each of them
    assert fresh(store, other).status is RunStatus.RUNNING
    assert cancelled(store, run) == 1000
    for _ in range(30):  # three of them do it, where the machine lets each come to this run
        if fresh(store, run).status is RunStatus.CANCELLING:
            coordinator.tick()
    assert fresh(store, run).status is RunStatus.CANCELLED
    assert cancelled(store, run) == MANY
    assert fresh(store, run).counts == Counts()


def test_what_was_begun_of_a_cancelled_run_is_settled_batch_by_batch(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancelled_runs, "SECONDS", 0.0)
    run, coordinator = with_batches(store, database, 6), coordinator_of(store)
    for _ in range(4):
        assert store.ledger.batches.claim([run.id], worker="dead", lsid=b"0" * 16)
    assert store.ledger.batches.take_over(worker="dead")
    database["things"].update_many({"_id": {"$in": [1, 2]}}, {"$set": {"_whimbrel.many_v1": f"{run.id}.1"}})
    cancel(store.ledger, run.id, who="test")
    seen = []
    while fresh(store, run).status is RunStatus.CANCELLING:
        coordinator.tick()
        seen.append(cancelled(store, run))
        assert len(seen) < 20
    assert seen[0] < 6
    assert seen[-1] == 6
    assert fresh(store, run).counts.changed == 1  # the one in the range of that batch


def test_a_tick_asks_no_more_of_a_run_with_very_many_batches(store: MongoStore, database: Data) -> None:
    coordinator, run = coordinator_of(store), with_batches(store, database, MANY)
    coordinator.tick()
    assert looked_at(database, coordinator.tick) < 300
    assert fresh(store, run).status is RunStatus.RUNNING


def test_runs_for_which_there_was_no_time_come_first_in_the_next_tick(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinate, "TICK_SECONDS", 0.0)  # one run a tick
    runs = []
    for name in "abcde":
        database[name].insert_one({"_id": 1})
        runs.append(start(store, Migration(name=name, collection=name, update={"$set": {"a": 1}})))
    coordinator = coordinator_of(store)
    for number in range(1, 6):
        coordinator.tick()
        assert [fresh(store, run).status for run in runs].count(RunStatus.RUNNING) == number


def test_the_end_of_the_ranges_is_found_among_very_many_batches_of_keys(
    store: MongoStore, database: Data
) -> None:
    run = with_batches(store, database, 1)
    store.ledger.batches.add(
        [
            Batch(run=run.id, seq=seq, leg=0, phase="pending", ids=(Key.of(seq),), located=True)
            for seq in range(2, MANY)
        ]
    )
    ends: list[Key | None] = []
    assert looked_at(database, lambda: ends.append(store.ledger.batches.end(run.id, 0))) < 50
    assert ends == [Key.of(1)]


def test_no_number_of_cancelled_cleanups_hides_the_one_that_was_done(
    store: MongoStore, database: Data
) -> None:
    database["things"].insert_one({"_id": 1})
    run = migrate(store, IT).run
    cleaned = start_cleanup(store, run.id, who="test", defaults=DEFAULTS)
    with system(store, [IT]):
        until(store, cleaned)
    rows = database["whimbrel_runs"]
    done = rows.find_one({"_id": cleaned.id})
    assert done is not None
    later = done["createdAt"] + timedelta(seconds=1)
    rows.insert_many(
        {**done, "_id": f"20990101-{number:06}", "status": "cancelled", "startedAt": None, "createdAt": later}
        for number in range(250)
    )
    with pytest.raises(StateForbids, match=cleaned.id):
        start_verification(store, run.id, IT.definition, who="test", defaults=DEFAULTS)


@pytest.mark.parametrize("status", ["failed", "pending"])
def test_ranges_that_left_something_are_found_among_very_many(
    store: MongoStore, database: Data, status: str
) -> None:
    run, rows = with_batches(store, database, MANY), database["whimbrel_batches"]
    rows.update_many({"run": run.id}, {"$set": {"left": {"failed": 0, "pending": 0}}})
    rows.update_one({"run": run.id, "seq": MANY - 3}, {"$set": {f"left.{status}": 2}})
    found: list[Batch] = []
    ask = lambda: found.extend(store.ledger.batches.list(run.id, leg=0, left=status))  # noqa: E731
    assert looked_at(database, ask) < 50
    assert [each.seq for each in found] == [MANY - 3]
