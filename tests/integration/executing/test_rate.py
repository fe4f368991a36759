"""A run keeps under its rate, however many slots work on it, and the rate may change while it works."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import start, system, until
from whimbrel import Migration
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.errors import StateForbids
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
INC = Migration(name="inc", collection="things", update={"$inc": {"n": 1}})


def adding(thing: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {"n": thing["n"] + 1}}


ADDING = Migration(name="adding", collection="things", transform=adding)
CLAIMING = Migration(name="claiming", collection="things", mark="status", claim=True, transform=adding)


def seed(database: Data, count: int) -> None:
    database["things"].insert_many([{"_id": i, "n": 0, "status": "pending"} for i in range(count)])


def done(database: Data) -> int:
    return database["things"].count_documents({"n": 1})


def eventually(what: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("it", [INC, ADDING, CLAIMING], ids=["declarative", "function", "claim"])
@pytest.mark.parametrize("batch_size", [50, 1000])
def test_a_run_takes_as_long_as_its_rate_demands(
    store: MongoStore, database: Data, it: Migration, slots: int, batch_size: int
) -> None:
    seed(database, 600)
    began = time.monotonic()
    with system(store, [it], slots=slots):
        found = until(store, start(store, it, rate=300, batch_size=batch_size))
    assert time.monotonic() - began >= 2.0
    assert (found.run.status, found.counts.changed, done(database)) == (RunStatus.COMPLETED, 600, 600)
    assert all(row.takeovers == 0 for row in store.ledger.batches.list(found.run.id))


def test_at_no_time_more_is_done_than_the_rate_allows(store: MongoStore, database: Data) -> None:
    """A chunk is a second's share of a slot: beyond that, nothing is ahead of the clock."""
    seed(database, 500)
    with system(store, [ADDING], slots=2):
        run = start(store, ADDING, rate=100, batch_size=100)
        eventually(lambda: done(database) > 0)
        began, first = time.monotonic(), done(database)
        while time.monotonic() - began < 2.5:
            ahead = done(database) - first - 100 * (time.monotonic() - began)
            assert ahead <= 200  # each of two slots may have a chunk of up to 100 before it waits
            time.sleep(0.05)
        control.cancel(store.ledger, run.id, who="test")
        until(store, run, RunStatus.CANCELLED)


def test_a_large_chunk_waits_longer_than_a_lease_and_is_not_lost(store: MongoStore, database: Data) -> None:
    seed(database, 6)
    began = time.monotonic()
    with system(store, [INC], slots=2):  # one document a second for both; a lease is 1.5 s
        found = until(store, start(store, INC, rate=1, batch_size=3))
    assert time.monotonic() - began >= 6
    assert found.counts.changed == 6
    assert all(
        (row.takeovers, row.claims) == (0, 1) for row in store.ledger.batches.list(found.run.id) if row.cuts
    )


def test_a_rate_is_set_changed_and_lifted_while_the_run_works(store: MongoStore, database: Data) -> None:
    seed(database, 3000)
    with system(store, [ADDING], slots=2):
        run = start(store, ADDING, rate=20, batch_size=1000)
        eventually(lambda: done(database) > 0)
        before = done(database)
        assert before < 500  # a small share: at this rate the run takes minutes
        control.adjust(store.ledger, run.id, who="test", rate=10)
        control.adjust(store.ledger, run.id, who="test", rate=None)
        found = until(store, run)
    assert (found.run.status, found.run.rate, done(database)) == (RunStatus.COMPLETED, None, 3000)
    said = [row["why"] for row in database["whimbrel_audit"].find({"what": "settings changed"}).sort("at", 1)]
    assert said == ["rate 10", "rate None"]
    with pytest.raises(StateForbids, match="change nothing"):
        control.adjust(store.ledger, run.id, who="test", rate=10)


def test_a_rate_given_in_mid_run_holds_from_then_on(store: MongoStore, database: Data) -> None:
    seed(database, 2000)

    def slowly(thing: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.001)
        return adding(thing)

    it = Migration(name="slowly", collection="things", transform=slowly)
    with system(store, [it], slots=1):
        run = start(store, it, batch_size=2000)
        eventually(lambda: done(database) > 0)
        control.adjust(store.ledger, run.id, who="test", rate=1)

        def quiet() -> bool:  # after a look, and what the chunk in hand still does
            before = done(database)
            time.sleep(1)
            return done(database) - before <= 2

        eventually(quiet)
        before = done(database)
        time.sleep(2)
        assert done(database) - before <= 3
        assert done(database) < 2000
        control.pause(store.ledger, run.id, who="test")
        until(store, run, RunStatus.PAUSED)


def test_a_pause_does_not_wait_for_the_rate(store: MongoStore, database: Data) -> None:
    seed(database, 100)
    with system(store, [INC], slots=12):
        run = start(store, INC, rate=1, batch_size=5)
        store.ledger.runs.reserve(run.id, 300, 1)
        eventually(lambda: done(database) >= 12, 60)  # all rest soon, each of them for minutes
        began = time.monotonic()
        control.pause(store.ledger, run.id, who="test")
        until(store, run, RunStatus.PAUSED, seconds=120)
        assert time.monotonic() - began < 60
        assert done(database) < 40


def test_a_batch_size_counts_for_what_is_planned_from_then_on(store: MongoStore, database: Data) -> None:
    """Also in a run over the first N: it never evaluates more."""
    seed(database, 400)
    with system(store, [INC], slots=1):
        run = start(store, INC, rate=50, batch_size=20, limit=350)
        eventually(lambda: len(store.ledger.batches.list(run.id)) >= 1)
        control.adjust(store.ledger, run.id, who="test", batch_size=3, rate=None)
        found = until(store, run)
    sizes = [row.estimated for row in store.ledger.batches.list(run.id) if row.phase == "pending"]
    assert (found.counts.changed, done(database), sum(sizes)) == (350, 350, 350)
    assert sizes[0] == 20
    assert sizes[-2] == 3
