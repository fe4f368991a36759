"""No slot is ever lost, and what is wrong with one batch does not stop the others."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pymongo import MongoClient
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.executing.test_rate import eventually
from tests.integration.in_process_system import nothing, start, system, until
from tests.servers.proxy import Proxy, through
from whimbrel import Migration
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.logs import configure_logs
from whimbrel.mongo.store import MongoStore, connected

Data = Database[dict[str, Any]]
PLUS = Migration(name="plus", collection="things", transform=lambda it: {"$set": {"n": it["n"] + 1}})


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """Without the values of variables: those take seconds."""
    configure_logs("json", "error")
    yield
    structlog.reset_defaults()


def seed(database: Data, count: int) -> None:
    database["things"].insert_many([{"_id": i, "n": 0} for i in range(count)])


def done(database: Data) -> int:
    return database["things"].count_documents({"n": 1})


class Breaking:
    """A step at which Whimbrel itself fails, the first few times."""

    def __init__(self, step: str, times: int, error: BaseException) -> None:
        self._step, self._left, self._error = step, times, error
        self._lock = threading.Lock()

    def __call__(self, step: str) -> None:
        with self._lock:
            if step != self._step or not self._left:
                return
            self._left -= 1
        raise self._error


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("S3", KeyError("odd")),
        ("S4", RuntimeError("\ud83d")),
        ("S6", SystemExit(1)),
        ("S8", KeyError("odd")),
        ("S9", TypeError("odd")),
    ],
)
def test_a_slot_outlives_whatever_goes_wrong_in_it(
    store: MongoStore, database: Data, step: str, error: BaseException
) -> None:
    seed(database, 100)
    with system(store, [PLUS], step=Breaking(step, 3, error)) as worker_state:
        found = until(store, start(store, PLUS, batch_size=20), *RunStatus)
        found = until(store, found.run)
        assert worker_state.slots == 2
        eventually(lambda: not worker_state.holds and not worker_state.taken)
    assert (found.run.status, done(database)) == (RunStatus.COMPLETED, 100)
    assert found.counts.changed == 100


@pytest.mark.parametrize(
    ("refused", "why"), [(False, "Whimbrel itself failed: KeyError: 'odd'"), (True, "BSON")]
)
def test_a_batch_that_cannot_be_worked_off_lets_the_others_go_on_and_then_the_run_pauses_with_the_reason(
    store: MongoStore, database: Data, *, refused: bool, why: str
) -> None:
    seed(database, 200)
    rows, wrong, crews = database["whimbrel_batches"], threading.Event(), list[WorkerState]()
    wrong.set()

    def step(name: str) -> None:
        if (
            name == "S4"
            and wrong.is_set()
            and any(it.batch.seq == 3 for worker_state in crews for it in list(worker_state.holds.values()))
        ):
            raise KeyError("odd")

    with system(store, [PLUS], slots=0):
        run = start(store, PLUS, batch_size=10)
        eventually(lambda: rows.count_documents({"run": run.id}) > 10)
    if refused:  # nobody can read on from there
        rows.update_one({"_id": f"{run.id}.3"}, {"$set": {"progress": [[1, 0, 0, 0, 0]], "at": {"x": 1}}})
    with system(store, [PLUS], slots=1, step=nothing if refused else step) as worker_state:
        crews.append(worker_state)
        found = until(store, run, RunStatus.PAUSED)
        assert why in (found.run.error or "")
        assert f"{run.id}.3" in (found.run.error or "")
        assert (done(database), worker_state.slots) == (190, 1)
        wrong.clear()
        rows.update_one({"_id": f"{run.id}.3"}, {"$set": {"at": None}})
        control.resume(store.ledger, run.id, who="test")
        assert until(store, run).run.status is RunStatus.COMPLETED
    assert done(database) == 200


def test_a_batch_that_comes_back_to_the_process_that_has_lost_it_costs_no_slot(
    store: MongoStore, database: Data
) -> None:
    """Its lease ends while its first slot is still in the function: the second gets it, and ends first."""
    seed(database, 1)
    calls: list[float] = []
    second = threading.Event()

    def slow(it: dict[str, Any]) -> dict[str, Any]:
        calls.append(time.monotonic())
        if len(calls) == 1:
            second.wait(60)
        return {"$set": {"n": it["n"] + 1}}

    it = Migration(name="slow", collection="things", transform=slow, timeout=300)
    with system(store, [it]) as worker_state:
        run = start(store, it)
        eventually(lambda: len(calls) == 1)
        for hold in list(
            worker_state.holds.values()
        ):  # as after a stall: the ledger has given it away, and nobody here knows
            hold.renewed += 3600
        rows = database["whimbrel_batches"]
        rows.update_one({"status": "running"}, {"$set": {"status": "queued", "owner": None}})
        eventually(lambda: store.ledger.batches.count(run.id, [BatchStatus.DONE]) == 1)
        second.set()
        found = until(store, run)
        eventually(lambda: not worker_state.holds)
        assert worker_state.slots == 2
    assert (found.run.status, done(database), len(calls)) == (RunStatus.COMPLETED, 1, 2)


def test_what_the_ledger_answers_to_a_statement_that_was_sent_twice_is_understood(
    mongo_uri: str, store: MongoStore, database: Data, client: MongoClient[dict[str, Any]]
) -> None:
    """The answer to a reservation is lost, and the driver asks again."""
    seed(database, 1)
    run = start(store, PLUS)
    host, port = client.address or ("", 0)
    rows = database["whimbrel_runs"]
    with Proxy(host, port) as wire:
        uri = through(mongo_uri, wire.port)
        with connected(uri, database.name, SHORT) as far:
            waits: list[float] = []
            for _ in range(3):
                before = (rows.find_one() or {}).get("pace")
                wire.slow(delay=0.3)
                asking = threading.Thread(
                    target=lambda: waits.append(far.ledger.runs.reserve(run.id, 10, 10))
                )
                asking.start()
                eventually(lambda before=before: (rows.find_one() or {}).get("pace") != before)  # type: ignore[misc]
                wire.slow()
                wire.churn()
                asking.join(60)
    assert len(waits) == 3
    assert sorted(waits) == waits
    assert 0 < waits[0] <= 1.0
