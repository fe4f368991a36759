"""Restart storms: two instances of `serve` by one schedule of every second, killed again and again, while the application writes.

`make chaos` kills 20 times.
"""

import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest

from tests.conftest import SHORT
from tests.faults.rig import MIGRATIONS, SHORT_TIMES
from tests.servers.rabbit import RabbitNode
from tests.servers.serve import Serve, eventually
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.schedules import Tick
from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.operating.schedules import find_schedule
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.store import MongoStore, connected

KILLS = int(os.environ.get("STORM_KILLS", "4"))
SCHEDULE = "every-second"
SECOND = timedelta(seconds=1)


class Application:
    """Inserts documents, and changes one field of any of them, all the while; it knows what was acknowledged."""

    def __init__(self, store: MongoStore) -> None:
        self.things = store.client[store.database]["things"]
        self.inserted = self.written = 0
        self.trouble: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self) -> Self:
        self.insert(1000)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def insert(self, count: int) -> None:
        self.things.insert_many({"_id": self.inserted + i, "n": 0, "status": "pending"} for i in range(count))
        self.inserted += count

    def _write(self) -> None:
        chance = random.Random(7)
        try:
            while not self._over.wait(0.005):
                if self.written % 5 == 0:
                    self.insert(5)
                it = {"_id": chance.randrange(self.inserted)}
                self.written += self.things.update_one(it, {"$inc": {"touched": 1}}).matched_count
        except BaseException as error:
            self.trouble = error
            raise


class History:
    """All ticks, though a row keeps only the last 50."""

    def __init__(self, store: MongoStore) -> None:
        self._ledger = store.ledger
        self._found: dict[datetime, Tick] = {}

    def look(self) -> list[Tick]:
        self._found |= {each.due_at: each for each in find_schedule(self._ledger, SCHEDULE).history}
        return [self._found[at] for at in sorted(self._found)]


@pytest.fixture(params=["ledger", "rabbitmq"])
def broker(request: pytest.FixtureRequest) -> str:
    if request.param == "ledger":
        return ""
    node: RabbitNode = request.getfixturevalue("node")
    return node.url


@pytest.fixture
def store(home: Path) -> Iterator[MongoStore]:
    name = f"storm_{secrets.token_hex(4)}"
    with embedded(home) as uri, connected(uri, name, SHORT) as found:
        yield found
        found.client.drop_database(name)


@pytest.fixture
def instances(store: MongoStore, home: Path, broker: str, tmp_path: Path) -> Iterator[list[Serve]]:
    """Two, with a worker process each."""
    changes = {
        **SHORT_TIMES, "WHIMBREL_HOME": str(home), "MONGODB_DB_NAME": store.database, "RABBITMQ_URL": broker,
        "WHIMBREL_MIGRATIONS": MIGRATIONS, "PROCESSING_DELAY": "50",
    }  # fmt: skip
    with ExitStack() as stack:
        yield [stack.enter_context(Serve(changes, tmp_path, "--workers", "1")) for _ in range(2)]


def at_work(store: MongoStore) -> bool:
    return bool(store.client[store.database]["whimbrel_batches"].find_one({"status": "running"}))


def runs(store: MongoStore) -> list[Run]:
    return sorted(store.ledger.runs.list(limit=1000), key=lambda run: run.created_at)


def over(store: MongoStore) -> bool:
    things = store.client[store.database]["things"]
    row = find_schedule(store.ledger, SCHEDULE)
    return (
        row.pending is None
        and all(run.status in ENDED for run in runs(store))
        and things.count_documents({"status": {"$ne": "success"}}) == 0
    )


def test_restarts_lose_nothing_and_never_two_runs_at_once(store: MongoStore, instances: list[Serve]) -> None:
    chance = random.Random(KILLS)
    history = History(store)
    for each in instances:
        each.wait()
    with Application(store) as application:
        plan = {"migration": "function-status", "cron": "* * * * * *", "batchSize": 100}
        url = f"/migrate/scheduler/schedules/{SCHEDULE}"
        assert instances[0].client.put(url, json=plan).status_code == 200
        for _ in range(KILLS):
            victim = chance.choice(instances)
            eventually(victim.answers)
            eventually(lambda: at_work(store))
            pause = time.monotonic() + chance.uniform(0, 1)
            while time.monotonic() < pause:
                history.look()
                time.sleep(0.05)
            victim.process.kill()
            victim.launch()
            history.look()
    assert application.trouble is None
    for each in instances:
        eventually(each.answers)
    eventually(lambda: history.look() and over(store))
    assert instances[1].client.post("/migrate/scheduler/stop").status_code == 200
    reckon(store, application, history.look())


def reckon(store: MongoStore, application: Application, ticks: list[Tick]) -> None:
    found = runs(store)
    for before, after in pairwise(found):
        assert before.ended_at is not None
        assert before.ended_at <= after.created_at, (before, after)
    for earlier, later in pairwise(ticks):
        assert later.first == earlier.due_at + SECOND, "a tick that nobody answers for"
    assert {each.outcome for each in ticks} <= {"started", "skipped"}, ticks
    assert [each.run for each in ticks if each.run] == [run.id for run in found]
    assert {str(run.status) for run in found} == {"completed"}
    everything: dict[str, Any] = next(
        application.things.aggregate([
            {"$group": {"_id": {"n": "$n", "status": "$status"}, "docs": {"$sum": 1}, "touched": {"$sum": "$touched"}}}
        ])
    )  # fmt: skip
    assert everything == {
        "_id": {"n": 1, "status": "success"}, "docs": application.inserted, "touched": application.written,
    }  # fmt: skip
    assert sum(run.counts.changed for run in found) == application.inserted
