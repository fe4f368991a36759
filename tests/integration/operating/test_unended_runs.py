"""The list of runs that have not ended, while a run moves between the two reads that make it."""

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import start
from whimbrel import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.unended_runs import unended_runs
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
THINGS = Migration(name="things", collection="things", update={"$set": {"n": 1}})
Q, R, PAUSING, P = RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.PAUSED


class MovingRuns:
    """The ledger's runs; a run moves after the first read."""

    def __init__(self, store: MongoStore, run: Run, targets: list[RunStatus]) -> None:
        self._runs, self._run, self._targets = store.ledger.runs, run, targets

    def every(self, *args: Any, **options: Any) -> Iterator[Run]:
        yield from self._runs.every(*args, **options)
        for target in self._targets:
            self._runs.move(self._run.id, target, who="test")
        self._targets = []


@pytest.mark.parametrize(
    ("first", "then"),
    [([], [R]), ([R], [PAUSING, P]), ([P], [Q, R]), ([R, PAUSING, P], [Q, R])],
    ids=["begins", "pauses", "resumed while queued", "resumed"],
)
def test_a_run_that_moves_is_met_once(
    store: MongoStore, database: Docs, first: list[RunStatus], then: list[RunStatus]
) -> None:
    database["things"].insert_one({"n": 0})
    run, other = start(store, THINGS), start(store, THINGS)
    for target in first:
        store.ledger.runs.move(run.id, target, who="test")
    runs: Any = MovingRuns(store, run, then)
    found = [each.id for each in unended_runs(runs, {Q, P}, most=5)]
    assert sorted(found) == sorted([run.id, other.id])


def test_those_at_work_come_first_and_no_more_than_asked_for(store: MongoStore, database: Docs) -> None:
    database["things"].insert_one({"n": 0})
    runs = [start(store, THINGS) for _ in range(4)]
    store.ledger.runs.move(runs[3].id, R, who="test")
    found = [each.id for each in unended_runs(store.ledger.runs, {Q, P}, most=3)]
    assert found == [runs[3].id, runs[0].id, runs[1].id]
