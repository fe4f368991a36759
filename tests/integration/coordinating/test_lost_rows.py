"""Rows of the ledger that are gone, or were restored from an older copy, in mid-run: noticed, and said."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import start, system, until
from whimbrel import Migration
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.mongo.store import MongoStore, connected

Data = Database[dict[str, Any]]
COUNT = 3000
IT = Migration(name="m", collection="things", update={"$inc": {"n": 1}})


class Losing:
    """What happens to the rows of the batches when the fifth has settled."""

    def __init__(self, database: Data, lose: Callable[[Data, list[dict[str, Any]]], None]) -> None:
        self._database, self._lose = database, lose
        self._lock, self._seen = threading.Lock(), 0
        self._copy: list[dict[str, Any]] = []

    def __call__(self, step: str) -> None:
        if step != "S8":
            return
        with self._lock:
            self._seen += 1
            batches = self._database["whimbrel_batches"]
            if self._seen == 2:
                self._copy = list(batches.find())
            if self._seen == 5:
                self._lose(self._database, self._copy)


def _dropped(database: Data, _: list[dict[str, Any]]) -> None:
    database["whimbrel_batches"].drop()


def _restored(database: Data, copy: list[dict[str, Any]]) -> None:
    """An older copy, as mongorestore --drop brings it."""
    database["whimbrel_batches"].drop()
    # Whose leases are over: the sweep of a parent, which is not here, takes them over.
    database["whimbrel_batches"].insert_many(
        each | {"status": each["status"].replace("running", "queued")} for each in copy
    )


def _one_deleted(database: Data, _: list[dict[str, Any]]) -> None:
    run = database["whimbrel_runs"].find_one({})
    assert run is not None
    database["whimbrel_batches"].delete_one({"run": run["_id"], "seq": run["foldedThrough"] + 9})


def _last_deleted(database: Data, _: list[dict[str, Any]]) -> None:
    last = database["whimbrel_batches"].find_one({}, sort=[("seq", -1)])
    assert last is not None
    database["whimbrel_batches"].delete_one({"_id": last["_id"]})


def _emptied(database: Data, _: list[dict[str, Any]]) -> None:
    database["whimbrel_batches"].delete_many({})


@pytest.mark.parametrize(
    "lose", [_dropped, _restored, _one_deleted, _last_deleted, _emptied], ids=lambda each: each.__name__
)
def test_lost_batches_pause_the_run_which_can_be_cancelled_and_made_anew(
    mongo_uri: str, store: MongoStore, database: Data, lose: Any
) -> None:
    database["things"].insert_many({"_id": at, "n": 0} for at in range(COUNT))
    with system(store, [IT], step=Losing(database, lose)):
        run = start(store, IT, batch_size=100)
        stopped = until(store, run, RunStatus.PAUSED, RunStatus.COMPLETED, RunStatus.FAILED).run
    assert stopped.status is RunStatus.PAUSED
    assert "has lost rows" in (stopped.error or "")
    with connected(mongo_uri, database.name, SHORT) as next_process:
        next_process.prepare()
    control.cancel(store.ledger, run.id, who="test")
    with system(store, [IT]):
        assert until(store, run).run.status is RunStatus.CANCELLED
        again = until(store, start(store, IT, batch_size=100)).run
    assert again.status is RunStatus.COMPLETED
    assert database["things"].count_documents({"n": 1}) == COUNT
