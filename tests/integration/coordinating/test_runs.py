"""Runs from start to end: phases in order, scopes, sweep, pause, cancel, retry, counts."""

import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import migrate, start, system, until
from whimbrel import SKIP, Migration, migration
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating.control import cancel, pause, resume, retry
from whimbrel.engine.operating.run_view import run_object, view
from whimbrel.errors import StateForbids
from whimbrel.mongo.store import MongoStore
from whimbrel.samples.migration import COLLECTION, SOME_MODEL
from whimbrel.samples.seeder import documents

Data = Database[dict[str, Any]]


def seed(database: Data, count: int, **fields: Any) -> None:
    database["things"].insert_many(
        [{"n": 0, "number": i, "status": "pending", **fields} for i in range(count)]
    )


def values(database: Data, field: str = "n") -> Counter[Any]:
    return Counter(each.get(field) for each in database["things"].find())


INC = Migration(name="inc", collection="things", update={"$inc": {"n": 1}})
STATUS = Migration(name="by-status", collection="things", mark="status", update={"$inc": {"n": 1}})


def test_the_sample_migrates_every_status_and_isolates_what_is_invalid(
    store: MongoStore, database: Data
) -> None:
    database[COLLECTION].create_index([("status", 1), ("_id", 1)])
    database[COLLECTION].insert_many(documents(3000, status="mixed", invalid=0.01, seed=7))
    before = Counter(each["status"] for each in database[COLLECTION].find())
    invalid = database[COLLECTION].count_documents(
        {"data": {"$not": {"$type": "object"}}, "status": {"$ne": "success"}}
    )
    found = migrate(store, SOME_MODEL)
    after = Counter(each["status"] for each in database[COLLECTION].find())
    assert invalid > 0
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert after == {"success": 3000 - invalid, "failed": invalid}
    assert found.counts.changed == 3000 - before["success"] - invalid
    assert found.failures["dead"] == invalid
    assert run_object(found)["failed"] == invalid


def test_what_a_sample_document_gets_depends_on_where_it_comes_from(
    store: MongoStore, database: Data
) -> None:
    for status in ("pending", "processing", "failed"):
        database[COLLECTION].insert_one(
            {**next(documents(1)), "_id": status, "status": status, "data": {"score": 1}}
        )
    found = migrate(store, SOME_MODEL)
    assert found.run.status is RunStatus.COMPLETED
    rows = {each["_id"]: each for each in database[COLLECTION].find()}
    common = {
        "status",
        "processedBy",
        "lastProcessed",
        "processingCompleted",
        "data",
        "name",
        "email",
        "createdAt",
        "updatedAt",
        "_id",
    }
    assert set(rows["pending"]) == common
    assert set(rows["processing"]) == common | {"processingDuration"}
    assert set(rows["failed"]) == common | {"retryCount", "lastRetryAt"}
    assert rows["failed"]["retryCount"] == 1
    assert rows["pending"]["data"].keys() == {"score", "processed", "processingTime"}
    assert all(each["processedBy"].startswith(f"{found.run.id}.") for each in rows.values())


def test_phases_open_in_order_and_only_when_the_one_before_is_drained(
    store: MongoStore, database: Data
) -> None:
    seed(database, 400)
    database["things"].update_many({"number": {"$lt": 100}}, {"$set": {"status": "processing"}})
    database["things"].update_many({"number": {"$gte": 300}}, {"$set": {"status": "failed"}})
    it = Migration(
        name="by-status", collection="things", mark="status", adopt="all", update={"$inc": {"n": 1}}
    )
    found = migrate(store, it, batch_size=50)
    rows = store.ledger.batches.list(found.run.id)
    order = [row.phase for row in rows]
    assert [phase for i, phase in enumerate(order) if i == 0 or order[i - 1] != phase] == [
        "pending",
        "processing",
        "failed",
        "sweep",
    ]
    ended: dict[str, Any] = {}
    for earlier, later in (("pending", "processing"), ("processing", "failed")):
        ended[earlier] = max(row.settled_at for row in rows if row.phase == earlier and row.settled_at)
        begun = min(row.claimed_at for row in rows if row.phase == later and row.claimed_at)
        assert ended[earlier] <= begun
    assert values(database) == {1: 400}
    assert found.counts.changed == 400


def test_documents_in_processing_are_nobodys_unless_adopted(store: MongoStore, database: Data) -> None:
    """H23: only a token that names a batch is evidence; what is old is not."""
    seed(database, 10)
    database["things"].update_many({"number": {"$lt": 4}}, {"$set": {"status": "processing"}})
    found = migrate(store, STATUS)
    assert found.counts.changed == 6
    assert database["things"].count_documents({"status": "processing", "n": 0}) == 4


def test_h23_documents_whose_token_names_a_batch_that_nobody_works_on_are_taken_up(
    store: MongoStore, database: Data
) -> None:
    seed(database, 10)
    first = migrate(store, STATUS)
    database["things"].update_many(
        {"number": {"$lt": 3}}, {"$set": {"status": "processing", "processedBy": f"{first.run.id}.1/c"}}
    )
    database["things"].update_many(
        {"number": {"$gte": 8}}, {"$set": {"status": "processing", "processedBy": "20200101-nobody.1"}}
    )
    second = migrate(store, STATUS)
    assert second.counts.changed == 3
    assert values(database) == {2: 3, 1: 7}


def test_h24_documents_inserted_behind_the_cursor_are_found_by_the_sweep(
    store: MongoStore, database: Data
) -> None:
    database["things"].insert_many([{"_id": i, "n": 0} for i in range(1000, 2000)])
    inserted = threading.Event()

    def step(name: str) -> None:
        if name == "S8" and not inserted.is_set():
            inserted.set()
            database["things"].insert_many([{"_id": i, "n": 0} for i in range(50)])
            database["things"].insert_many([{"_id": f"late {i}", "n": 0} for i in range(50)])

    with system(store, [INC], step=step):
        found = until(store, start(store, INC, batch_size=100))
    assert found.run.status is RunStatus.COMPLETED
    assert values(database) == {1: 1100}
    assert found.counts.changed == 1100


def test_a_run_ends_while_documents_are_inserted_all_the_while(store: MongoStore, database: Data) -> None:
    seed(database, 500)
    over = threading.Event()

    def insert() -> None:
        while not over.is_set():
            database["things"].insert_one({"n": 0})

    inserting = threading.Thread(target=insert)
    inserting.start()
    try:
        found = migrate(store, INC, batch_size=50)
    finally:
        over.set()
        inserting.join()
    assert found.run.status is RunStatus.COMPLETED
    assert set(values(database)) <= {0, 1}
    assert database["things"].count_documents({"n": 1}) == found.counts.changed >= 500


def test_a_limit_takes_exactly_the_first_eligible_documents(store: MongoStore, database: Data) -> None:
    seed(database, 100)
    even = Migration(
        name="even", collection="things", filter={"number": {"$mod": [2, 0]}}, update={"$inc": {"n": 1}}
    )
    found = migrate(store, even, limit=13, batch_size=5)
    assert found.run.status is RunStatus.COMPLETED
    assert sorted(each["number"] for each in database["things"].find({"n": 1})) == list(range(0, 26, 2))
    assert "first 13" in found.run.message
    assert "sweep" not in found.run.legs


def test_an_empty_collection_completes(store: MongoStore, database: Data) -> None:
    database.create_collection("things")
    found = migrate(store, INC)
    assert (found.run.status, found.processed) == (RunStatus.COMPLETED, 0)


def test_a_second_run_finds_nothing_to_do(store: MongoStore, database: Data) -> None:
    seed(database, 300)
    migrate(store, INC)
    found = migrate(store, INC)
    assert (found.run.status, found.counts.changed) == (RunStatus.COMPLETED, 0)
    assert values(database) == {1: 300}


def test_a_filter_narrows_a_migration(store: MongoStore, database: Data) -> None:
    seed(database, 100)
    found = migrate(store, INC, filter_={"number": {"$lt": 30}})
    assert found.counts.changed == 30
    assert database["things"].count_documents({"n": 1, "number": {"$lt": 30}}) == 30


def test_h26_a_second_run_on_a_collection_waits_for_the_first(store: MongoStore, database: Data) -> None:
    seed(database, 200)
    other = Migration(name="other", collection="things", update={"$inc": {"m": 1}})
    first, second = start(store, INC, batch_size=20), start(store, other)
    with system(store, [INC, other]):
        found = until(store, second)
        assert until(store, first).run.status is RunStatus.COMPLETED
    assert found.run.status is RunStatus.COMPLETED
    ended = store.ledger.runs.get(first.id)
    assert ended is not None
    assert ended.ended_at is not None
    assert found.run.started_at is not None
    assert ended.ended_at <= found.run.started_at
    assert (values(database), values(database, "m")) == ({1: 200}, {1: 200})


@migration(collection="things", batch_size=50)
def lazy(thing: dict[str, Any]) -> dict[str, Any]:
    """Slow enough to be stopped in the middle."""
    time.sleep(0.002)
    return {"$set": {"n": thing["n"] + 1}}


def stop_in_the_middle(store: MongoStore, database: Data, run_id: str) -> None:
    end = time.monotonic() + 20
    while database["things"].count_documents({"n": 1}) < 50 and time.monotonic() < end:
        time.sleep(0.01)
    assert store.ledger.batches.count(run_id, [BatchStatus.RUNNING, BatchStatus.QUEUED])


def test_a_paused_run_stands_still_and_resumes_where_it_stopped(store: MongoStore, database: Data) -> None:
    seed(database, 1500)
    with system(store, [lazy]):
        run = start(store, lazy)
        stop_in_the_middle(store, database, run.id)
        pause(store.ledger, run.id, who="test")
        paused = until(store, run, RunStatus.PAUSED)
        done = database["things"].count_documents({"n": 1})
        assert 0 < done < 1500
        assert database["things"].count_documents({"n": 1}) == done
        assert paused.processed <= done
        with pytest.raises(StateForbids):
            pause(store.ledger, run.id, who="test")
        resume(store.ledger, run.id, who="test")
        found = until(store, run)
    assert found.run.status is RunStatus.COMPLETED
    assert values(database) == {1: 1500}
    assert found.counts.changed == 1500
    assert all(row.takeovers == 0 for row in store.ledger.batches.list(run.id))


def test_a_cancelled_run_counts_what_it_touched_and_touches_nothing_more(
    store: MongoStore, database: Data
) -> None:
    seed(database, 1500)
    with system(store, [lazy]):
        run = start(store, lazy)
        stop_in_the_middle(store, database, run.id)
        cancel(store.ledger, run.id, who="test")
        found = until(store, run, RunStatus.CANCELLED)
        done = database["things"].count_documents({"n": 1})
        with pytest.raises(StateForbids, match="start a new run"):
            cancel(store.ledger, run.id, who="test")
    assert database["things"].count_documents({"n": 1}) == done == found.counts.changed < 1500
    again = migrate(store, lazy)
    assert again.counts.changed == 1500 - done
    assert values(database) == {1: 1500}


def test_outcomes_of_a_function_add_up_and_are_marked(patient_store: MongoStore, database: Data) -> None:
    """H2: skipped and unchanged documents bear a mark, so the sweep does not evaluate them again."""
    seed(database, 300)
    called: Counter[int] = Counter()

    def sorting(thing: dict[str, Any]) -> Any:
        called[thing["number"]] += 1
        return [SKIP, {"$set": {"n": 0}}, {"$set": {"n": 1}}][thing["number"] % 3]

    found = migrate(patient_store, Migration(name="sorting", collection="things", transform=sorting))
    assert (found.counts.changed, found.counts.unchanged, found.counts.skipped) == (100, 100, 100)
    marks = Counter(each["_whimbrel"]["sorting_v1"].partition("/")[2] for each in database["things"].find())
    assert marks == {"": 100, "u": 100, "s": 100}
    assert set(called.values()) == {1}


def test_h2_under_the_mark_filter_the_ledger_remembers_what_was_passed_over(
    patient_store: MongoStore, database: Data
) -> None:
    seed(database, 300)
    called: Counter[int] = Counter()

    def sorting(thing: dict[str, Any]) -> Any:
        called[thing["number"]] += 1
        return [SKIP, {"$set": {"n": 0}}, {"$set": {"n": 1}}][thing["number"] % 3]

    it = Migration(
        name="sorting", collection="things", mark="filter", filter={"n": {"$lt": 1}}, transform=sorting
    )
    found = migrate(patient_store, it)
    assert (found.counts.changed, found.counts.unchanged, found.counts.skipped) == (100, 100, 100)
    assert set(called.values()) == {1}
    assert found.run.inferred is False


def test_h1_one_bad_document_does_not_falsify_the_count(store: MongoStore, database: Data) -> None:
    seed(database, 1000)
    database.command("collMod", "things", validator={"n": {"$lt": 1000}})
    database["things"].update_many({"number": {"$in": [3, 500, 999]}}, {"$set": {"n": 999}})
    found = migrate(store, INC, batch_size=1000)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert (found.counts.changed, found.failures["dead"]) == (997, 3)
    assert values(database) == {1: 997, 999: 3}
    assert {row.type for row in store.ledger.failures.list(found.run.id)} == {"DocumentValidationFailure"}


def test_h21_a_failure_that_cannot_be_written_to_the_document_is_in_the_ledger(
    store: MongoStore, database: Data
) -> None:
    seed(database, 20)
    database.command("collMod", "things", validator={"number": {"$lt": 19}})
    found = migrate(store, STATUS)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert (found.counts.changed, found.failures["dead"]) == (19, 1)
    assert database["things"].count_documents({"status": "pending"}) == 1
    assert [row.claims for row in store.ledger.batches.list(found.run.id) if row.phase == "sweep"] == [
        1,
        0,
    ]  # the second: nothing lies behind


def test_retry_reopens_dead_letters_and_success_resolves_them(store: MongoStore, database: Data) -> None:
    seed(database, 100)
    database["things"].update_many({"number": {"$gte": 95}}, {"$set": {"n": "text"}})
    found = migrate(store, INC)
    assert found.failures["dead"] == 5
    database["things"].update_many({"n": "text"}, {"$set": {"n": 0}})
    with system(store, [INC]):
        _, opened = retry(store.ledger, found.run.id, who="test")
        again = until(store, found.run, RunStatus.COMPLETED)
    assert opened == 5
    assert again.counts.changed == 100
    assert values(database) == {1: 100}
    assert {row.resolution for row in store.ledger.failures.list(found.run.id)} == {"changed"}


def test_h22_a_failed_document_that_was_deleted_resolves_as_gone(store: MongoStore, database: Data) -> None:
    seed(database, 50)
    database["things"].update_many({"number": {"$gte": 48}}, {"$set": {"n": "text"}})
    found = migrate(store, INC)
    database["things"].delete_many({"n": "text"})
    with system(store, [INC]):
        retry(store.ledger, found.run.id, who="test")
        again = until(store, found.run, RunStatus.COMPLETED)
    assert again.counts.changed == 48
    assert {row.resolution for row in store.ledger.failures.list(found.run.id)} == {"gone"}


def test_h7_folding_twice_adds_once(store: MongoStore, database: Data) -> None:
    seed(database, 10)
    run = start(store, INC)
    assert store.ledger.runs.fold(run, Counts(50), 1, inferred=False)
    assert not store.ledger.runs.fold(run, Counts(50), 1, inferred=False)
    folded = store.ledger.runs.get(run.id)
    assert folded is not None
    assert folded.counts == Counts(50)


def test_h5_two_runs_never_share_a_token(store: MongoStore, database: Data) -> None:
    seed(database, 60)
    first = migrate(store, STATUS)
    database["things"].update_many({}, {"$set": {"status": "pending"}})
    second = migrate(store, STATUS)
    assert first.run.id != second.run.id
    tokens = {each["processedBy"].rpartition(".")[0] for each in database["things"].find()}
    assert tokens == {second.run.id}
    assert second.counts.changed == 60


def test_every_transition_is_audited(store: MongoStore, database: Data) -> None:
    seed(database, 10)
    found = migrate(store, INC)
    entries = [each["what"] for each in database["whimbrel_audit"].find({"run": found.run.id}).sort("at", 1)]
    assert entries == ["run added", "run running", "run completed"]


def test_a_view_counts_all_that_is_settled_behind_a_batch_that_is_not(
    store: MongoStore, database: Data
) -> None:
    """While one batch keeps the others from being folded, thousands may be."""
    seed(database, 1)
    run = start(store, INC)
    store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    stuck = Batch(run=run.id, seq=1, leg=0, phase="pending", counts=Counts(changed=100))
    done = replace(stuck, status=BatchStatus.DONE, counts=Counts(changed=3, unchanged=2, skipped=1))
    rows = [replace(done, seq=seq) for seq in range(2, 1502)]
    cancelled = replace(done, seq=1502, status=BatchStatus.CANCELLED)
    store.ledger.batches.add([stuck, *rows, cancelled, replace(stuck, seq=1503)])
    found = view(store.ledger, run)
    assert found.counts == Counts(changed=4503, unchanged=3002, skipped=1501)
    assert (found.completed_batches, found.total_batches) == (1501, 1503)
    later = view(store.ledger, replace(run, folded_through=1501, counts=Counts(skipped=7)))
    assert later.counts == Counts(changed=3, unchanged=2, skipped=8)
    assert (later.completed_batches, later.total_batches) == (1502, 1503)
    assert view(store.ledger, replace(run, folded_through=1503)).total_batches == 1503


def test_a_view_of_a_run_needs_no_look_at_the_collection(store: MongoStore, database: Data) -> None:
    seed(database, 100)
    found = migrate(store, INC)
    database["things"].drop()
    again = view(store.ledger, found.run)
    assert (again.processed, again.progress) == (100, 100.0)


def test_a_retry_of_a_paused_run_goes_on_where_it_stopped(store: MongoStore, database: Data) -> None:
    seed(database, 1500)
    database["things"].update_one({"number": 0}, {"$set": {"n": "text"}})

    def adding(thing: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.002)
        return {"$set": {"n": thing["n"] + 1}}

    it = Migration(name="adding", collection="things", batch_size=50, max_attempts=1, transform=adding)
    with system(store, [it]):
        run = start(store, it)
        stop_in_the_middle(store, database, run.id)
        pause(store.ledger, run.id, who="test")
        until(store, run, RunStatus.PAUSED)
        database["things"].update_one({"number": 0}, {"$set": {"n": 0}})
        retry(store.ledger, run.id, who="test")
        found = until(store, run)
    assert found.run.status is RunStatus.COMPLETED
    assert values(database) == {1: 1500}


def test_a_migration_does_not_resolve_the_failures_of_another(store: MongoStore, database: Data) -> None:
    seed(database, 20)
    database["things"].update_one({"number": 3}, {"$set": {"n": "text"}})
    failed = migrate(store, INC)
    migrate(store, Migration(name="other", collection="things", update={"$set": {"m": 1}}))
    assert store.ledger.failures.counts(failed.run.id)["dead"] == 1


def test_under_the_mark_filter_failures_do_not_falsify_the_count_after_a_crash(
    store: MongoStore, database: Data
) -> None:
    """The sweep leaves failures out, and must leave them out of both counts of which it takes the difference."""
    seed(database, 20)
    database["things"].update_many({"number": {"$lt": 5}}, {"$set": {"fail": True}})

    def adding(thing: dict[str, Any]) -> dict[str, Any]:
        if thing.get("fail"):
            raise ValueError("no good")
        return {"$set": {"n": thing["n"] + 1}}

    it = Migration(
        name="adding",
        collection="things",
        mark="filter",
        filter={"n": {"$lt": 1}},
        max_attempts=1,
        transform=adding,
    )
    inserted = threading.Event()

    def step(name: str) -> None:
        fresh = store.ledger.runs.list()[0]
        if name == "S11" and fresh.phase == "failed" and not inserted.is_set():
            inserted.set()
            database["things"].insert_many([{"n": 0, "number": 100 + i} for i in range(7)])
        elif name == "S6" and fresh.phase == "sweep":  # as if a process had died after this write
            database["whimbrel_batches"].update_one(
                {"phase": "sweep", "status": "running"}, {"$set": {"owner": "lost"}}
            )
            store.ledger.batches.take_over(worker="inline")

    with system(store, [it], step=step, slots=1):
        found = until(store, start(store, it))
    assert inserted.is_set()
    assert found.counts.changed == 22
    assert found.run.inferred
