"""What another process does between any two statements of a question or change leaves its answer right."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.monitoring import CommandListener, CommandStartedEvent

from tests.conftest import SHORT
from tests.integration.coordinating.test_waiting_runs import current
from tests.integration.in_process_system import start
from tests.integration.ledger.test_failures_at_scale import counted, trouble, working
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailureState, Unresolved
from whimbrel.domain.failures.failure_query import FailureQuery
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.failure_budget import standing_of
from whimbrel.engine.operating.overview import Watch
from whimbrel.mongo.ledger import failure_search
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
FAILING = 30
MOST = 60  # statements that a question may need
STATEMENTS = ("find", "aggregate", "update", "insert", "delete", "findAndModify")
Steps = tuple[str, ...]
Act = Callable[[], object]


class BeforeStatement(CommandListener):
    """Calls `act` just before the statement with that number is sent."""

    def __init__(self) -> None:
        self.act: Act | None = None
        self.number, self.sent = -1, 0

    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name in STATEMENTS:
            self.sent += 1
            if self.sent - 1 == self.number and self.act is not None:
                self.act()

    def succeeded(self, event: Any) -> None: ...

    def failed(self, event: Any) -> None: ...


@dataclass
class OtherProcess:
    """A process of its own connection, in the midst of whose work something happens."""

    store: MongoStore
    database: Data
    listener: BeforeStatement

    def statements(self, *, least: int) -> Iterator[int]:
        """Yields the number of each statement of a question that is asked each time; at last one that it does not have. There are more than `least`."""
        for number in range(MOST):
            yield number
            if self.listener.sent <= number:
                break
        assert least < number < MOST - 1

    def ask(self, question: Callable[[], Any], *, meanwhile: Act, number: int) -> Any:
        """Returns the answer to a question, just before whose statement with that number something happens."""
        self.listener.act, self.listener.number, self.listener.sent = meanwhile, number, 0
        try:
            return question()
        finally:
            self.listener.act = None


@pytest.fixture
def other(mongo_uri: str, store: MongoStore, database: Data) -> Iterator[OtherProcess]:
    listener = BeforeStatement()
    with MongoClient[Any](mongo_uri, event_listeners=[listener]) as client:
        its = MongoStore(client, database.name, SHORT, replica_set=True, where="test")
        yield OtherProcess(its, client[database.name], listener)


def counts_of(database: Data) -> BatchFailureCounts:
    blocks, batches, failures = (database[f"whimbrel_{name}"] for name in ("blocks", "batches", "failures"))
    return BatchFailureCounts(batches, failures, FailureSums(blocks, batches, failures))


def give_back(database: Data, *batches: Batch) -> None:
    tokens = [batch.token for batch in batches]
    database["whimbrel_batches"].update_many({"_id": {"$in": tokens}}, {"$set": {"status": "queued", "owner": None}})  # fmt: skip


def unresolved(store: MongoStore, run: Run, *keys: int) -> Sequence[Unresolved]:
    return store.ledger.failures.unresolved(run, [Key.of(key) for key in keys])


@pytest.mark.parametrize("steps", [("mark",), ("keep",), ("keep", "mark"), ("mark", "keep")], ids="+".join)
@pytest.mark.parametrize("before", [("mark",), ("mark", "keep")], ids="+".join)
def test_each_failure_is_counted_once_while_its_batch_is_marked_or_kept(
    store: MongoStore, database: Data, other: OtherProcess, before: Steps, steps: Steps
) -> None:
    run, batches = working(store, database)
    for batch in batches:
        failing = range(batch.seq * 100, batch.seq * 100 + FAILING // len(batches))
        store.ledger.failures.record(run, batch, [trouble(key) for key in failing])
    give_back(database, *batches)
    tokens, writer, failures = (
        [batch.token for batch in batches],
        counts_of(database),
        other.store.ledger.failures,
    )
    ways: dict[str, Act] = {"mark": lambda: writer.mark(tokens), "keep": lambda: writer.keep_some(10)}
    questions: dict[str, Callable[[], int]] = {
        "by cause": lambda: sum(number.unresolved for number in failures.by_cause(run.id).values()),
        "groups": lambda: sum(group.open + group.dead for group in failures.groups(run.id).groups),
        "of runs": lambda: sum(failures.counts(run.id)[state] for state in ("open", "dead")),
    }
    told = dict[tuple[str, int], int]()
    for name, question in questions.items():
        for number in other.statements(least=1):
            for step in before:
                ways[step]()
            told[name, number] = other.ask(question, meanwhile=lambda: [ways[step]() for step in steps], number=number)  # fmt: skip
    assert {place: told_number for place, told_number in told.items() if told_number != FAILING} == {}


@pytest.mark.parametrize("known", [False, True], ids=["first", "again"])
def test_a_document_that_fails_in_two_batches_at_once_is_counted_in_one(
    store: MongoStore, database: Data, other: OtherProcess, known: bool
) -> None:
    run, batches = working(store, database, batches=MOST * 3)
    rest = iter(batches)
    for number in other.statements(least=5):
        first, second, third = next(rest), next(rest), next(rest)
        key = 1000 + number
        if known:  # it has failed in a third batch before
            store.ledger.failures.record(run, third, [trouble(key)])
            give_back(database, third)
            store.ledger.failures.add_up(run.id)

        def fails_here_and_settles(first: Batch = first, key: int = key) -> None:
            store.ledger.failures.record(run, first, [trouble(key)])
            give_back(database, first)
            counts_of(database).count([first.token])

        other.ask(
            partial(other.store.ledger.failures.record, run, second, [trouble(key)]),
            meanwhile=fails_here_and_settles,
            number=number,
        )
        give_back(database, second)
        store.ledger.failures.add_up(run.id)
        assert store.ledger.failures.counts(run.id) == counted(database, run.id), number


def test_what_another_batch_has_taken_is_not_closed_behind_its_back(
    store: MongoStore, database: Data, other: OtherProcess
) -> None:
    run, (first, second, _) = working(store, database)
    store.ledger.failures.record(run, first, [trouble(7)])
    give_back(database, first)
    found = unresolved(store, run, 7)

    def fails_elsewhere() -> None:
        store.ledger.failures.record(run, second, [trouble(7)])
        give_back(database, second)
        counts_of(database).count([second.token])

    other.ask(
        lambda: other.store.ledger.failures.resolve(found, "changed"), meanwhile=fails_elsewhere, number=2
    )
    store.ledger.failures.add_up(run.id)
    assert store.ledger.failures.counts(run.id) == counted(database, run.id)
    assert [row.batch for row in unresolved(store, run, 7)] == [second.token]


def test_what_passes_after_it_failed_in_the_same_batch_is_no_failure(
    store: MongoStore, database: Data
) -> None:
    run, (first, *_) = working(store, database)
    store.ledger.failures.record(run, first, [trouble(7), trouble(8)])
    store.ledger.failures.record_passed_over(run, first, {Key.of(7): "skipped"})
    give_back(database, first)
    store.ledger.failures.add_up(run.id)
    assert store.ledger.failures.counts(run.id) == counted(database, run.id)
    assert [row.key for row in unresolved(store, run, 7, 8)] == [Key.of(8)]


def test_a_filtered_page_of_failures_passes_over_none_that_stays(
    store: MongoStore, database: Data, other: OtherProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_search, "LOOKED_AT", 10)
    wanted = FailureQuery(until=datetime.now(UTC) + timedelta(days=1))
    failures = store.ledger.failures
    for number in other.statements(least=5):
        run, (batch, *_) = working(store, database)
        keys = list(range(40))
        failures.record(run, batch, [trouble(key) for key in keys])
        leaving = keys[:8]
        close = unresolved(store, run, *leaving)

        def pages(run: Run = run) -> list[int]:
            after, told = None, list[int]()
            while True:
                page = other.store.ledger.failures.search(run.id, wanted, after=after, limit=100)
                told += [
                    failure.key.value
                    for failure in page.failures
                    if failure.state is not FailureState.RESOLVED
                ]
                if page.after is None:
                    return told
                after = page.after

        told = other.ask(pages, meanwhile=partial(failures.resolve, close, "changed"), number=number)
        assert [key for key in told if key not in leaving] == keys[8:], number
        database["whimbrel_runs"].delete_many({})


def test_a_run_whose_removal_begins_while_another_process_removes_is_removed_whole(
    store: MongoStore, database: Data, other: OtherProcess
) -> None:
    for number in other.statements(least=3):
        run, _ = working(store, database)
        database["whimbrel_batches"].update_many({"run": run.id}, {"$set": {"status": "done"}})
        store.ledger.runs.move(run.id, RunStatus.COMPLETED, who="test")
        ended = current(store, run)

        def removes(run: Run = run) -> None:
            for begun in store.ledger.retention.begun():
                store.ledger.retention.remove(begun, 1000)

        began = other.ask(
            partial(other.store.ledger.retention.begin, ended), meanwhile=removes, number=number
        )
        if began:
            removes()
            assert database["whimbrel_batches"].count_documents({"run": run.id}) == 0, number
        else:
            assert current(store, run).id == run.id
            database["whimbrel_runs"].delete_one({"_id": run.id})


def test_the_budget_knows_documents_of_a_batch_whose_process_has_died(
    store: MongoStore, database: Data
) -> None:
    run, (batch, *_) = working(store, database)
    store.ledger.failures.record(run, batch, [trouble(key) for key in range(FAILING)])
    executing = standing_of(store.ledger, current(store, run)).untold
    give_back(database, batch)
    assert standing_of(store.ledger, current(store, run)).untold == executing > 0


@pytest.mark.parametrize("first", [RunStatus.QUEUED, RunStatus.PAUSED], ids=str)
def test_a_run_that_begins_while_the_overview_is_read_is_not_told_gone(
    store: MongoStore, database: Data, other: OtherProcess, first: RunStatus
) -> None:
    database["things"].insert_one({"_id": 0, "n": 100})
    it = Migration(name="things", collection="things", update={"$set": {"a": 1}})
    for number in other.statements(least=3):
        run = start(store, it)
        if first is RunStatus.PAUSED:
            for status in (RunStatus.RUNNING, RunStatus.PAUSING, RunStatus.PAUSED):
                store.ledger.runs.move(run.id, status, who="test")
        watch = Watch(other.store.ledger)
        watch.look()

        def begins(run: Run = run) -> None:
            for status in (RunStatus.QUEUED, RunStatus.RUNNING)[first is RunStatus.QUEUED :]:
                store.ledger.runs.move(run.id, status, who="test")

        overview = other.ask(watch.look, meanwhile=begins, number=number)
        assert (run.id in overview.lines, overview.gone, list(overview.dropped)) == (True, [], []), number
        database["whimbrel_runs"].delete_many({})


def test_a_request_that_another_one_has_given_up_meanwhile_is_remembered(
    store: MongoStore, other: OtherProcess
) -> None:
    answers = store.ledger.answers
    for number in other.statements(least=1):
        key = f"key {number}"
        assert answers.begin(key, "same") is None
        given = other.ask(
            partial(other.store.ledger.answers.begin, key, "same"),
            meanwhile=partial(answers.forget, key),
            number=number,
        )
        again = answers.begin(key, "same")
        assert again is not None, (number, given)  # whoever asks, one of the two is at work on it
