"""What a page about a run shows while it works, and afterwards: its strip, its slots, its phases, and what was asked for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import start, system, until
from tests.waiting import until as wait
from whimbrel import SKIP, Migration
from whimbrel.api.models.runs import run_model
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.operating import control
from whimbrel.engine.operating.keyspace_view import cell_object, strip_object, strip_of
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.slots_view import slots_object
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
COUNT, SIZE = 60, 10


class Held:
    """A migration whose calls wait until the test lets them go. 7 fails for good, 33 once, 51 is skipped."""

    def __init__(self) -> None:
        self.go_on = threading.Semaphore(0)
        self.tried: list[int] = []
        self.migration = Migration(name="held", collection="things", transform=self, max_attempts=2)

    def __call__(self, document: dict[str, Any]) -> Any:
        assert self.go_on.acquire(timeout=60)
        number = document["_id"]
        self.tried.append(number)
        if number == 7 or (number == 33 and self.tried.count(33) == 1):
            raise ValueError("bad")
        return SKIP if number == 51 else {"$set": {"a": 1}}


@contextmanager
def at_work(store: MongoStore, database: Docs, held: Held) -> Iterator[Run]:
    database["things"].insert_many({"_id": number} for number in range(COUNT))
    with system(store, [held.migration]):
        terms = Terms(nice=0)
        yield start(
            store, held.migration, batch_size=SIZE, priority=3, terms=terms, filter_={"_id": {"$gte": 0}}
        )
        held.go_on.release(10_000)


@pytest.fixture
def held() -> Held:
    return Held()


def strip(store: MongoStore, run: Run, **options: Any) -> Any:
    return strip_object(
        strip_of(store.ledger, control.find_run(store.ledger, run.id), cells=COUNT, **options)
    )


def slots(store: MongoStore, run: Run) -> Any:
    return slots_object(store.ledger, control.find_run(store.ledger, run.id))


def test_what_is_not_planned_yet_shrinks_as_planning_goes_on(
    store: MongoStore, database: Docs, held: Held
) -> None:
    """The strip of one run keeps its length: a collection of 4,000 documents has 400 batches of ten, planned or not."""
    many = 4000
    database["things"].insert_many({"_id": 1000 + number} for number in range(many - COUNT))
    with at_work(store, database, held) as run:
        wait(lambda: strip(store, run)["batches"]["working"] == 2)
        planned: set[int] = set()
        while len(planned) < 3:
            batches = {**strip(store, run)["batches"]}
            del batches["withFailures"]
            assert batches["notPlanned"] > 0
            assert sum(batches.values()) == many / SIZE
            planned.add(batches["notPlanned"])
            held.go_on.release(SIZE)
            wait(lambda: strip(store, run)["batches"]["settled"] > batches["settled"])  # noqa: B023


def test_a_run_at_work_shows_who_has_what_and_who_knows_what(
    store: MongoStore, database: Docs, held: Held
) -> None:
    with at_work(store, database, held) as run:
        wait(lambda: slots(store, run)["working"] == 2)
        shown = strip(store, run)
        assert shown["cells"] == "w20p40"
        assert shown["batches"] == {
            "settled": 0, "working": 2, "pending": 4, "cancelled": 0, "notPlanned": 0, "withFailures": 0,
        }  # fmt: skip
        control.adjust(store.ledger, run.id, who="test", rate=100_000)
        asked = slots(store, run)["settings"]
        assert (asked["changes"], asked["seen"], asked["of"]) == (1, 0, 2)  # they hang in their calls
        held.go_on.release(30)
        wait(lambda: slots(store, run)["settings"]["seen"] == slots(store, run)["settings"]["of"] == 2)
        control.pause(store.ledger, run.id, who="test")
        wait(lambda: slots(store, run)["stop"] == {"asked": "pause", "seen": 2, "left": 2})
        held.go_on.release(1000)
        until(store, run, RunStatus.PAUSED)
        assert slots(store, run)["stop"] == {"asked": None, "seen": 0, "left": 0}
        control.resume(store.ledger, run.id, who="test")
        until(store, run)
    phases = [
        (phase["phase"], phase["state"], phase["changed"], phase["skipped"])
        for phase in told(store, run)["phases"]
    ]
    assert phases == [
        ("pending", "done", COUNT - 3, 1), ("failed", "done", 1, 0), ("sweep", "done", 0, 0), ("failed", "done", 0, 0),
    ]  # fmt: skip
    batches = {phase["leg"]: phase["completedBatches"] for phase in told(store, run)["phases"]}
    assert sum(batches.values()) == told(store, run)["completedBatches"]
    shown = strip(store, run)
    assert (shown["leg"], shown["cells"]) == (0, "r10s20r10s20")  # 7 and 33 were tried again
    retries = strip(store, run, leg=1)
    assert "f" in retries["cells"]
    assert retries["batches"]["withFailures"] == 1
    strip_at = strip_of(store.ledger, control.find_run(store.ledger, run.id), cells=COUNT)
    third = cell_object(store.ledger, strip_at, 25)
    assert (third["firstBatch"], third["parts"], third["part"], third["through"]) == (
        f"{run.id}.3",
        10,
        5,
        29,
    )


def told(store: MongoStore, run: Run) -> Any:
    """The run as the API answers it."""
    found = view(store.ledger, control.find_run(store.ledger, run.id))
    return run_model(found).model_dump(by_alias=True)


def test_what_was_asked_for_stays_whatever_is_changed_later(store: MongoStore, database: Docs) -> None:
    database["things"].insert_one({"_id": 1})
    it = Migration(name="it", collection="things", update={"$set": {"a": 1}}, undo=True)
    terms = Terms(windows=["22:00-06:00 UTC"], nice=2)
    run = start(store, it, batch_size=70, rate=500, priority=4, terms=terms, filter_={"_id": 1})
    control.adjust(store.ledger, run.id, who="test", rate=None, batch_size=10, priority=0, windows=[], nice=0)
    shown = told(store, run)
    assert (shown["batchSize"], shown["maxDocsPerSecond"], shown["priority"], shown["nice"]) == (
        10,
        None,
        0,
        0,
    )
    request = shown["request"]
    assert (request["filters"], request["phase"]) == ({"_id": 1}, "pending")
    assert request["options"] == {
        "batchSize": 70, "maxDocsPerSecond": 500, "priority": 4, "windows": ["22:00-06:00 UTC"], "nice": 2, "maxFailures": None,
        "maxFailureRate": None, "maxNewCause": None, "follow": False, "undo": True, "adopt": "ours", "stages": [], "hold": None, "approve": False,
    }  # fmt: skip
    assert [phase["state"] for phase in shown["phases"]] == ["current", "waiting", "waiting", "waiting"]


def test_a_run_of_an_earlier_version_tells_no_numbers_that_it_does_not_have(
    store: MongoStore, database: Docs
) -> None:
    database["things"].insert_one({"_id": 1})
    it = Migration(name="it", collection="things", update={"$set": {"a": 1}})
    with system(store, [it]):
        run = until(store, start(store, it)).run
    gone = dict.fromkeys(("byLeg", "options", "changes", "changedAt"), "")
    database["whimbrel_runs"].update_one({"_id": run.id}, {"$unset": gone})
    shown = told(store, run)
    assert shown["request"]["options"] is None
    assert {phase["processedItems"] for phase in shown["phases"]} == {None}
    assert slots(store, run)["settings"] == {"changes": 0, "changedAt": None, "seen": 0, "of": 0}
