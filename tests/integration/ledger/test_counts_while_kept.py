"""The number of failures is right whatever another process marks or keeps between any two statements that read it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.monitoring import CommandListener, CommandStartedEvent

from tests.integration.ledger.test_failures_at_scale import trouble, working
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
FAILING = 30
READS = ("find", "aggregate")
MOST = 20  # statements that one reading may need
Steps = tuple[str, ...]


class Meanwhile(CommandListener):
    """Calls `act` just before the statement with that number is sent."""

    def __init__(self) -> None:
        self.act: Callable[[], object] = list
        self.number, self.sent = -1, 0

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in READS:
            self.sent += 1
            if self.sent - 1 == self.number:
                self.act()

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


def counts_of(database: Data) -> BatchFailureCounts:
    blocks, batches, failures = (database[f"whimbrel_{name}"] for name in ("blocks", "batches", "failures"))
    return BatchFailureCounts(batches, failures, FailureSums(blocks, batches, failures))


@pytest.fixture
def reading(mongo_uri: str, database: Data) -> Iterator[tuple[Data, Meanwhile]]:
    """A reader's database, and what happens while it reads."""
    meanwhile = Meanwhile()
    with MongoClient[dict[str, Any]](mongo_uri, event_listeners=[meanwhile]) as client:
        yield client[database.name], meanwhile


@pytest.mark.parametrize("steps", [("mark",), ("keep",), ("keep", "mark"), ("mark", "keep")], ids="+".join)
@pytest.mark.parametrize("before", [("mark",), ("mark", "keep")], ids="+".join)
def test_a_reading_between_marking_and_keeping_counts_each_failure_once(
    store: MongoStore, database: Data, reading: tuple[Data, Meanwhile], before: Steps, steps: Steps
) -> None:
    run, batches = working(store, database)
    for batch in batches:
        failing = range(batch.seq * 100, batch.seq * 100 + FAILING // len(batches))
        store.ledger.failures.record(run, batch, [trouble(key) for key in failing])
    database["whimbrel_batches"].update_many({}, {"$set": {"status": "queued", "owner": None}})
    tokens, writer = [batch.token for batch in batches], counts_of(database)
    ways: dict[str, Callable[[], None]] = {
        "mark": lambda: writer.mark(tokens),
        "keep": lambda: writer.keep_some(10),
    }
    reader, meanwhile = reading
    questions: dict[str, Callable[[], int]] = {
        "by cause": lambda: sum(n.unresolved for n in FailureSums(*(reader[f"whimbrel_{name}"] for name in ("blocks", "batches", "failures"))).groups_of(run.id).values()),
        "of runs": lambda: counts_of(reader).of_runs([run.id])[run.id].n,
    }  # fmt: skip
    meanwhile.act = lambda: [ways[step]() for step in steps]
    told = dict[tuple[str, int], int]()
    for name, ask in questions.items():
        for number in range(MOST):
            for step in before:
                ways[step]()
            meanwhile.number, meanwhile.sent = number, 0
            told[name, number] = ask()
            if meanwhile.sent <= number:
                break
        assert 1 < number < MOST - 1
    assert {place: n for place, n in told.items() if n != FAILING} == {}
