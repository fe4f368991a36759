"""Processes are killed, and MongoDB breaks its change streams off, while a run follows: nothing is lost, nothing done twice."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.conftest import SHORT
from tests.faults.rig import Rig
from tests.integration.in_process_system import start, system, until
from tests.servers.replicas import ReplicaSet
from tests.waiting import until as wait
from whimbrel import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.mongo.store import MongoStore, connected

EACH = 30  # documents that are written while processes die
OLD = {"n": 0, "status": "pending"}


class Writing(threading.Thread):
    """An application that writes old-shaped documents one by one."""

    def __init__(self, rig: Rig, first: int) -> None:
        super().__init__()
        self._rig, self._first = rig, first

    def run(self) -> None:
        for number in range(self._first, self._first + EACH):
            self._rig.things.insert_one({**OLD, "number": number})
            time.sleep(0.01)


def until_changed(rig: Rig, count: int) -> None:
    def changed() -> bool:
        rig.tend()
        return bool(rig.things.count_documents({}) == rig.things.count_documents({"n": 1}) == count)

    wait(changed, 90)


def restart(rig: Rig) -> None:
    """The parent dies; its workers see that, and end. Another takes its place, with the environment as it is now."""
    (parent,) = rig.parents
    parent.kill()
    parent.wait()
    rig.tend()


def kill_worker(rig: Rig) -> None:
    rig.children()[0].kill()


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ("S2", "function-marker"),
        ("S8", "declarative-filter"),
        ("S1", "declarative-status"),
        ("S6", "function-filter"),
    ],
)
def test_processes_that_die_while_a_run_follows_lose_and_double_nothing(
    rig: Rig, step: str, name: str
) -> None:
    """First at a step, such as S2: the batches are stored, and the position is not. Then a parent and a worker at any moment."""
    rig.seed(100)
    run = rig.start(name, follow=True)
    rig.parent()
    wait(lambda: rig.look(run).run.phase == "follow")
    rig.die_at(step, 1, deaths=2)
    restart(rig)
    count = 100
    for kill in (None, restart, kill_worker):
        writing = Writing(rig, count)
        writing.start()
        if kill is not None:
            wait(rig.children)
            kill(rig)
        writing.join()
        count += EACH
        until_changed(rig, count)
    assert rig.deaths_left() == 0
    control.adjust(rig.store.ledger, run.id, who="test", follow=False)
    found = rig.finish(run)
    rig.reckon(found, count)
    assert found.run.follow is not None
    assert found.run.follow.lost == 0


# what MongoDB says of its streams, by its fail points


@contextmanager
def failing(store: MongoStore, command: str, code: int) -> Iterator[None]:
    """The next such command on the collection meets this error."""
    what = {"failCommands": [command], "errorCode": code, "namespace": f"{store.database}.things"}
    store.client.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=what)
    try:
        yield
    finally:
        store.client.admin.command("configureFailPoint", "failCommand", mode="off")


def test_a_sweep_makes_up_for_a_stream_that_mongodb_cannot_continue() -> None:
    it = Migration(name="m", collection="things", update={"$inc": {"n": 1}})
    with ReplicaSet(1, enableTestCommands=1) as replicas, connected(replicas.uri, "test", SHORT) as store:
        things = store.client["test"]["things"]
        things.insert_one(dict(OLD))
        count, losses = 1, 0
        run: Run | None = None
        for command, code, loss in (
            ("getMore", 286, 1), ("getMore", 280, 1), ("getMore", 10107, 0), ("getMore", 43, 0), ("aggregate", 286, 1),
        ):  # fmt: skip
            with system(store, [it]):  # each time it begins anew to read
                run = run or start(store, it, follow=True)
                if command == "aggregate":
                    control.pause(store.ledger, run.id, who="test")
                    until(store, run, RunStatus.PAUSED)
                else:
                    losses += loss
                    with failing(store, command, code):
                        wait(lambda: followed(store, run, losses))  # noqa: B023
                        things.insert_one(dict(OLD))
                        count += 1
                        wait(lambda: things.count_documents({"n": 1}) == count)  # noqa: B023
            if command == "aggregate":
                things.insert_one(dict(OLD))
                with failing(store, command, code), system(store, [it]):
                    control.resume(store.ledger, run.id, who="test", code=it.definition)
                    wait(lambda: followed(store, run, losses + 1))  # noqa: B023
                    wait(lambda: things.count_documents({"n": 1}) == count + 1)  # noqa: B023
                    control.adjust(store.ledger, run.id, who="test", follow=False)
                    assert until(store, run).run.status is RunStatus.COMPLETED
        by_n = [
            (row["_id"], row["c"]) for row in things.aggregate([{"$group": {"_id": "$n", "c": {"$sum": 1}}}])
        ]
        assert by_n == [(1, count + 1)]


def followed(store: MongoStore, run: Any, losses: int) -> bool:
    """Whether it follows, after so many positions were lost."""
    now = store.ledger.runs.get(run.id)
    assert now is not None
    assert now.follow is not None
    return now.phase == "follow" and now.follow.lost == losses
