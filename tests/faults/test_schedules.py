"""Schedulers that are killed: a tick makes one run or none, runs of a schedule never overlap, and documents lose nothing."""

import random
import time
from datetime import datetime
from itertools import pairwise
from typing import Any

import pytest

from tests.faults.rig import Rig
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.schedules import Plan, Schedule
from whimbrel.engine.operating import default_schedule, schedules

NAME = "every-second"
PATIENCE = 60.0


def begin(rig: Rig, *, parents: int) -> None:
    """A schedule of every second, and parents that carry it out."""
    ledger = rig.store.ledger
    default_schedule.prepare_default(ledger, Plan(migration="some-model", cron="0 0 1 1 *", enabled=False))
    schedules.save_schedule(
        ledger, NAME, Plan(migration="declarative-status", cron="* * * * * *"), who="test"
    )
    rig.environment["ENABLE_SCHEDULER"] = "true"
    for _ in range(parents):
        rig.parent(workers=1)


def born(rig: Rig) -> list[Run]:
    return sorted(rig.store.ledger.runs.list(limit=1000), key=lambda run: run.created_at)


def row(rig: Rig) -> Schedule:
    return schedules.find_schedule(rig.store.ledger, NAME)


def feed(rig: Rig, count: int) -> None:
    rig.things.insert_many([{"n": 0, "status": "pending"} for _ in range(count)])


def left(rig: Rig) -> int:
    return rig.things.count_documents({"n": 0})


def until_born(rig: Rig, count: int) -> None:
    """So many runs: on a loaded machine parents that were killed take long to come back."""
    end = time.monotonic() + PATIENCE
    while len(born(rig)) < count:
        assert time.monotonic() < end, row(rig)
        feed(rig, 5)
        rig.tend()
        time.sleep(0.1)


def settle(rig: Rig) -> None:
    """Until a schedule without kills has brought every document to its end."""
    end = time.monotonic() + PATIENCE
    while left(rig) or row(rig).pending or any(run.ended_at is None for run in born(rig)):
        assert time.monotonic() < end, (left(rig), row(rig), born(rig))
        rig.tend()
        time.sleep(0.1)


def reckon(rig: Rig) -> None:
    """No two runs at once, no run that no tick started, no tick decided twice, each document changed once."""
    runs = born(rig)
    for before, after in pairwise(runs):
        assert before.ended_at is not None
        assert before.ended_at <= after.created_at, (before, after)
    started: dict[str, datetime] = {
        tick.run: tick.due_at
        for tick in row(rig).history
        if tick.outcome == "started" and tick.run is not None
    }
    told = [run.id for run in runs][-len(started) :]
    assert set(told) == set(started)
    times = [tick.due_at for tick in row(rig).history]
    assert times == sorted(set(times))
    outcomes = {tick.outcome for tick in row(rig).history}
    assert outcomes <= {"started", "skipped"}, row(rig).history
    by_n: dict[Any, int] = {
        each["_id"]: each["count"]
        for each in rig.things.aggregate([{"$group": {"_id": "$n", "count": {"$sum": 1}}}])
    }
    assert set(by_n) == {1}, by_n
    assert sum(run.counts.changed for run in runs) == by_n[1]


@pytest.mark.parametrize("seed", [1, 2])
def test_parents_that_are_killed_in_a_loop(rig: Rig, seed: int) -> None:
    chance = random.Random(seed)
    begin(rig, parents=2)
    for _ in range(6):
        pause = time.monotonic() + chance.uniform(0.5, 2.5)
        while time.monotonic() < pause:
            feed(rig, 20)
            rig.tend()
            time.sleep(0.1)
        chance.choice(rig.parents).kill()
    until_born(rig, 3)
    settle(rig)
    reckon(rig)


@pytest.mark.parametrize("step", ["T1", "T2", "T3"])
def test_a_scheduler_that_is_killed_at_each_step(rig: Rig, step: str) -> None:
    """Before the tick is decided, before its run is added, before it is history: three times each."""
    rig.die_at(step, 2, 3)
    feed(rig, 20)
    begin(rig, parents=2)
    end = time.monotonic() + PATIENCE
    while rig.deaths_left():
        assert time.monotonic() < end, (step, row(rig))
        feed(rig, 5)
        rig.tend()
        time.sleep(0.1)
    until_born(rig, 2)
    settle(rig)
    reckon(rig)
