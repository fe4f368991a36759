"""What a run claims at its end, and the holes that only show there."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo.database import Database

from tests import waiting
from tests.conftest import PATIENT
from tests.integration.in_process_system import migrate, start, system, until
from whimbrel import Migration
from whimbrel.domain.failures.failure import FailureKind
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.coordinating.planner import Planner
from whimbrel.errors import FilterRefused
from whimbrel.mongo.store import MongoStore
from whimbrel.ports import Documents

Data = Database[dict[str, Any]]
INC = Migration(name="inc", collection="things", update={"$inc": {"n": 1}})


def seed(database: Data, count: int) -> None:
    database["things"].insert_many([{"n": 0, "number": i} for i in range(count)])


def test_h6_a_run_whose_batches_leave_a_gap_does_not_say_completed(store: MongoStore, database: Data) -> None:
    seed(database, 100)
    gone = threading.Event()

    def step(name: str) -> None:
        if name == "S11" and not gone.is_set():
            gone.set()
            row = database["whimbrel_batches"].find_one({"seq": 2})
            assert row is not None
            database["whimbrel_batches"].update_one({"seq": 2}, {"$set": {"lo": row["cuts"][0]}})

    with system(store, [INC], step=step):
        found = until(store, start(store, INC, batch_size=20))
    assert found.run.status is RunStatus.FAILED
    assert found.run.error is not None
    assert f"{found.run.id}.2" in found.run.error


def test_h6_what_came_after_the_sweep_is_reported(store: MongoStore, database: Data) -> None:
    seed(database, 100)

    def step(name: str) -> None:
        if (
            name == "S11"
            and store.ledger.batches.count(run.id, [BatchStatus.DONE])
            and run_phase() == "sweep"
        ):
            database["things"].insert_many([{"n": 0}] * 1, ordered=False)

    def run_phase() -> str:
        fresh = store.ledger.runs.get(run.id)
        return fresh.phase if fresh else ""

    run = start(store, INC)
    with system(store, [INC], step=step):
        found = until(store, run)
    assert found.run.status is RunStatus.COMPLETED
    assert found.run.message == "1 documents became eligible after the sweep had begun."


def test_a_complete_run_says_that_nothing_is_left(store: MongoStore, database: Data) -> None:
    seed(database, 10)
    assert migrate(store, INC).run.message == "Nothing eligible is left."


def test_h8_declarative_counts_every_matched_document_as_changed(store: MongoStore, database: Data) -> None:
    seed(database, 10)
    found = migrate(store, Migration(name="noop", collection="things", update={"$set": {"n": 0}}))
    assert (found.counts.changed, found.counts.unchanged) == (10, 0)


def test_h11_a_document_that_the_application_never_leaves_alone_is_a_conflict(
    store: MongoStore, database: Data
) -> None:
    seed(database, 50)

    def racing(thing: dict[str, Any]) -> dict[str, Any]:
        if thing["number"] == 7:  # the application is always faster
            database["things"].update_one({"number": 7}, {"$inc": {"other": 1}})
        return {"$set": {"n": thing["n"] + 1}}

    found = migrate(store, Migration(name="racing", collection="things", transform=racing, max_attempts=2))
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert (found.counts.changed, found.failures["conflict"], found.failures["failed"]) == (49, 1, 0)
    rows = store.ledger.failures.list(found.run.id)
    assert [(row.kind, row.attempt, row.outcome) for row in rows] == [(FailureKind.CONFLICT, 2, "conflict")]
    assert database["things"].count_documents({"n": 1}) == 49


@contextmanager
def stopped_before_settling(store: MongoStore, it: Migration) -> Iterator[None]:
    """A worker that has written its documents and now does nothing at all."""
    reached, go_on = threading.Event(), threading.Event()

    def step(name: str) -> None:
        if name == "S6":
            reached.set()
            go_on.wait(120)

    with system(store, [it], slots=1, step=step):
        try:
            start(store, it)
            assert reached.wait(60)
            yield
        finally:
            go_on.set()


def test_h14_a_worker_that_stands_still_blocks_no_write_of_the_application(
    store: MongoStore, database: Data
) -> None:
    seed(database, 100)
    with stopped_before_settling(store, INC):
        begun = time.monotonic()
        database["things"].update_many({}, {"$set": {"application": True}}, comment="the application")
        assert database["things"].count_documents({"n": 1, "application": True}) == 100
        assert time.monotonic() - begun < 60  # it stands still for longer


def test_h18_a_lease_is_written_in_the_servers_time(patient_store: MongoStore, database: Data) -> None:
    seed(database, 100)
    with stopped_before_settling(patient_store, INC):
        [row] = database["whimbrel_batches"].aggregate([
            {"$match": {"status": "running"}},
            {"$project": {"left": {"$subtract": ["$leaseUntil", "$$NOW"]}, "age": {"$subtract": ["$$NOW", "$claimedAt"]}}},
        ])  # fmt: skip
        assert 0 < row["left"] <= PATIENT.lease * 1000
        assert row["age"] >= 0


def test_a_mark_that_makes_no_filter_false_is_noticed(store: MongoStore, database: Data) -> None:
    """Under mark "filter" a change that leaves the filter true would be made again by the sweep."""
    seed(database, 100)
    wrong = Migration(
        name="wrong",
        collection="things",
        mark="filter",
        filter={"number": {"$gte": 0}},
        update={"$inc": {"n": 1}},
    )
    found = migrate(store, wrong)
    assert found.run.status is RunStatus.FAILED
    assert found.run.error is not None
    assert "filter" in found.run.error
    assert {each["n"] for each in database["things"].find()} <= {0, 1}


def test_a_filter_that_cannot_be_evaluated_on_a_document_pauses_the_run_with_the_reason(
    store: MongoStore, database: Data
) -> None:
    seed(database, 10)
    it = Migration(
        name="odd",
        collection="things",
        filter={"$expr": {"$eq": [{"$toInt": "$n"}, 0]}},
        update={"$set": {"done": True}},
    )
    run = start(store, it)
    database["things"].update_one({"number": 7}, {"$set": {"n": "seven"}})
    with pytest.raises(FilterRefused, match="seven"):
        start(store, it)
    with system(store, [it]):
        found = until(store, run, RunStatus.PAUSED)
    assert found.run.error is not None
    assert "seven" in found.run.error


def test_h81_a_coordinator_that_was_overtaken_ends_no_phase_that_it_has_not_judged(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes coordinate one run where the first has stalled and its role went to the second."""
    seed(database, 100)
    plan, overtaken = Planner.plan, threading.Event()

    def stalled(planner: Planner, run: Run, documents: Documents, *, slots: int) -> bool:
        at_its_end = plan(planner, run, documents, slots=slots)
        if at_its_end and run.leg == 1 and not overtaken.is_set():
            store.ledger.runs.next_leg(run)  # as the other process does
            opened = store.ledger.runs.get(run.id)
            assert opened is not None
            assert not plan(planner, opened, documents, slots=slots)
            waiting.until(
                lambda: not store.ledger.batches.count(run.id, [BatchStatus.QUEUED, BatchStatus.RUNNING])
            )
            overtaken.set()
        return at_its_end

    monkeypatch.setattr(Planner, "plan", stalled)
    found = migrate(store, INC)
    assert overtaken.is_set()
    assert (found.run.status, found.run.error) == (RunStatus.COMPLETED, None)
    assert database["things"].count_documents({"n": 1}) == 100
