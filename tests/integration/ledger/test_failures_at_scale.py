"""Failures at scale: counters that are kept and stay exact, rows that do not pile up, pages instead of everything."""

import random
import signal
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.coordinating.test_waiting_runs import current, looked_at
from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from tests.servers import preloaded
from whimbrel import SKIP, Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run, RunKind
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.control import retry
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.mongo.ledger import failure_counts
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
BAD = 40


def picky(document: dict[str, Any]) -> Any:
    if document["n"] < BAD:
        raise ValueError("bad")
    return {"$set": {"a": 1}}


IT = Migration(name="picky", collection="things", filter={"n": {"$gte": 0}}, transform=picky)
SESSION = b"0" * 16


def seed(database: Data, count: int = 100) -> None:
    database["things"].insert_many([{"_id": key, "n": key} for key in range(count)])


def counted(database: Data, run: str) -> dict[str, int]:
    """What the rows say, one by one."""
    rows = list(database["whimbrel_failures"].find({"run": run, "state": {"$in": ["open", "dead"]}}))
    found = Counter(row["state"] for row in rows) + Counter(row["outcome"] for row in rows)
    return {name: found[name] for name in ("open", "dead", "failed", "conflict")}


def working(store: MongoStore, database: Data, batches: int = 3) -> tuple[Run, list[Batch]]:
    """A run with claimed batches."""
    if not database["things"].count_documents({}):
        database["things"].insert_one({"_id": 0, "n": 100})
    run = start(store, IT)
    assert store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    rows = [
        Batch(run=run.id, seq=seq, leg=0, phase="pending", lo=Key.of(seq), cuts=(Key.of(seq + 1),))
        for seq in range(1, batches + 1)
    ]
    store.ledger.batches.add(rows)
    claimed = [store.ledger.batches.claim([run.id], worker="A", lsid=SESSION) for _ in rows]
    return current(store, run), [each for each in claimed if each]


def trouble(key: int, kind: FailureKind = FailureKind.CODE) -> FailedDocument:
    return FailedDocument(key=Key.of(key), kind=kind, type="ValueError", message="bad")


def test_counters_say_what_the_rows_say_after_any_changes(store: MongoStore, database: Data) -> None:
    dice = random.Random(7)
    run, batches = working(store, database)
    failures = store.ledger.failures

    def resolve(key: int) -> None:
        failures.resolve(failures.unresolved(run, [Key.of(key)]), "changed")

    settled: set[str] = set()
    for _ in range(60):
        batch, key = dice.choice(batches), dice.randrange(12)
        kind = dice.choice(list(FailureKind))
        several = [trouble(each) for each in range(key, key + 3)]
        changes: list[Callable[[], object]] = [
            partial(failures.record, run, batch, [trouble(key, kind)]),
            partial(failures.record, run, batch, several),
            partial(resolve, key),
            partial(failures.reopen, run.id),
        ]
        if batch.token in settled:
            changes = changes[2:]
        dice.choice(changes)()
        if dice.random() < 0.05 and batch.token not in settled:
            store.ledger.batches.settle(batch, Counts())
            settled.add(batch.token)
        assert failures.counts(run.id) == counted(database, run.id)
        rows = database["whimbrel_failures"].find({"run": run.id, "state": {"$in": ["open", "dead"]}})
        assert failures.numbers(run.id)[1] == len({row["batch"] for row in rows})
    assert settled


def test_a_count_that_was_overtaken_by_a_change_is_not_kept(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweep counts a batch that is marked, just before its rows change; it keeps what it counted just after they are counted again."""
    run, batches = working(store, database)
    failures, rows = store.ledger.failures, database["whimbrel_failures"]
    failures.record(run, batches[0], [trouble(1), trouble(2)])
    store.ledger.batches.settle(batches[0], Counts())
    tokens = [batches[0].token]
    batch_failures = failures._batch_failures  # type: ignore[attr-defined]
    real, overtaken = failure_counts.counted, list[bool]()

    def counted_late(*arguments: Any) -> Any:
        found = real(*arguments)
        if not overtaken:
            overtaken.append(True)
            rows.update_many(
                {"run": run.id}, {"$set": {"state": "resolved"}}
            )  # whoever has marked them goes on
            batch_failures.keep(tokens)
        return found

    batch_failures.mark(tokens)
    with monkeypatch.context() as patch:
        patch.setattr("whimbrel.mongo.ledger.batch_failure_counts.counted", counted_late)
        failures.keep_some(5)
    assert overtaken
    assert failures.counts(run.id) == {"open": 0, "dead": 0, "failed": 0, "conflict": 0}
    assert failures.counts(run.id) == counted(database, run.id)


def test_retries_of_one_batch_s_documents_by_two_workers_leave_its_number_exact(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One knows where the rows are and has not written yet; the other does all of it, and keeps a number that the first one's rows are still in."""
    run, (first, one, other) = working(store, database)
    failures = store.ledger.failures
    failures.record(run, first, [trouble(key) for key in range(20)])
    store.ledger.batches.settle(first, Counts())
    failures.add_up(run.id)
    real, between = failures._write, list[bool]()  # type: ignore[attr-defined]

    def late(*arguments: Any) -> Any:
        if not between:
            between.append(True)
            failures.record(run, other, [trouble(key) for key in range(10, 20)])
            failures.add_up(run.id)
        return real(*arguments)

    monkeypatch.setattr(failures, "_write", late)
    failures.record(run, one, [trouble(key) for key in range(10)])
    assert between
    for batch in (one, other):
        store.ledger.batches.settle(batch, Counts())
    failures.add_up(run.id)
    assert counted(database, run.id)["failed"] == 20
    assert failures.counts(run.id) == counted(database, run.id)
    assert failures.numbers(run.id)[1] == 2


@pytest.mark.parametrize("ask", ["counts", "causes", "workers"])
def test_a_row_that_moves_while_numbers_are_read_is_counted_once(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch, ask: str
) -> None:
    run, (first, second, _) = working(store, database)
    failures = store.ledger.failures
    failures.record(run, first, [trouble(key) for key in range(20)])
    store.ledger.batches.settle(first, Counts())
    failures.record(run, second, [trouble(100)])  # it is worked on: its rows are counted
    real, moved = failure_counts.counted, list[bool]()

    def counted_late(*arguments: Any) -> Any:
        if not moved:
            moved.append(True)
            failures.record(run, second, [trouble(key) for key in range(20)])
        return real(*arguments)

    monkeypatch.setattr(failure_counts, "counted", counted_late)
    if ask == "counts":
        assert failures.counts(run.id)["failed"] == 21
    elif ask == "causes":
        assert sum(each.unresolved for each in failures._blocks.groups_of(run.id).values()) == 21  # type: ignore[attr-defined]
    else:
        assert failures.by_worker(["A"]) == {"A": 1}
    assert moved


def test_counters_are_exact_after_many_workers_have_recorded_the_same_documents(
    store: MongoStore, database: Data
) -> None:
    run, batches = working(store, database, 13)
    failures = store.ledger.failures
    failures.record(run, batches[0], [trouble(key) for key in range(60)])
    store.ledger.batches.settle(batches[0], Counts())

    def retrying(own: int) -> None:
        dice = random.Random(own)
        for batch in batches[1 + own :: 4]:
            for _ in range(10):
                failures.record(run, batch, [trouble(key) for key in dice.sample(range(60), 5)])
                if dice.random() < 0.2:
                    key = Key.of(dice.randrange(60))
                    failures.resolve(failures.unresolved(run, [key]), "changed")
            store.ledger.batches.settle(batch, Counts())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(retrying, range(4)))
    failures.add_up(run.id)
    assert failures.counts(run.id) == counted(database, run.id)


@pytest.mark.parametrize("dies", ["insert_many", "mark", "blocks", "keep", "delete_many"])
def test_counters_are_exact_after_a_process_was_killed_in_the_middle_of_recording(
    store: MongoStore, database: Data, mongo_uri: str, dies: str
) -> None:
    seed(database, 60)
    old = migrate(store, IT).run
    run, batches = working(store, database, 1)
    batch = batches[0]
    script = Path(__file__).parents[2] / "faults" / "recording.py"
    child = preloaded.run(
        [sys.executable, script, mongo_uri, database.name, batch.token, dies], check=False, timeout=60
    )
    assert child.returncode == -signal.SIGKILL
    failures = store.ledger.failures
    for each in (old, run):
        assert failures.counts(each.id) == counted(database, each.id)
    failures.record(run, batch, [trouble(key) for key in range(30)])  # the batch is worked through again
    store.ledger.batches.settle(batch, Counts())
    for each in (old, run):
        failures.add_up(each.id)
        assert failures.counts(each.id) == counted(database, each.id)
    assert database["whimbrel_failures"].count_documents({"run": run.id}) == 30


def test_kept_counters_cost_the_same_however_many_documents_fail(store: MongoStore, database: Data) -> None:
    run, (few, many, _) = working(store, database)
    failures = store.ledger.failures
    asked: dict[str, Callable[[], object]] = {
        "status": lambda: view(store.ledger, current(store, run)),
        "counts": lambda: failures.counts(run.id),
        "workers": lambda: failures.by_worker(["A"]),
        "due": lambda: failures.due(run.id, 5),
    }
    failures.record(run, few, [trouble(key, FailureKind.DATA) for key in range(5)])
    store.ledger.batches.settle(few, Counts())
    before = {name: looked_at(database, ask) for name, ask in asked.items()}
    failures.record(run, many, [trouble(key, FailureKind.DATA) for key in range(10, 2010)])
    store.ledger.batches.settle(many, Counts())
    after = {name: looked_at(database, ask) for name, ask in asked.items()}
    assert failures.counts(run.id)["dead"] == 2005
    assert {name: number for name, number in after.items() if number > before[name] + 20} == {}
    assert failures.by_worker(["A", "B"]) == {"A": 2}


def test_runs_again_and_again_over_the_same_bad_documents_keep_one_row_of_each(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    found = [migrate(store, IT) for _ in range(4)]
    assert [each.failures["failed"] for each in found] == [BAD] * 4
    assert database["whimbrel_failures"].count_documents({}) == BAD
    now = [view(store.ledger, each.run).failures for each in found]
    assert [each["dead"] for each in now] == [0, 0, 0, BAD]


def test_what_was_skipped_under_the_mark_filter_is_kept_once_too(store: MongoStore, database: Data) -> None:
    seed(database)
    it = Migration(
        name="skips", collection="things", filter={"a": {"$exists": False}}, mark="filter",
        transform=lambda each: SKIP if each["n"] < BAD else {"$set": {"a": 1}},
    )  # fmt: skip
    for _ in range(3):
        assert migrate(store, it).counts.skipped == BAD
    assert database["whimbrel_failures"].count_documents({}) == BAD


def test_a_failure_that_is_passed_over_when_it_is_tried_again_is_none_any_more(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    tries: Counter[int] = Counter()

    def shy(document: dict[str, Any]) -> Any:
        tries[document["_id"]] += 1
        if document["n"] < BAD and tries[document["_id"]] == 1:
            raise ValueError("not yet")
        return SKIP if document["n"] < BAD else {"$set": {"a": 1}}

    it = Migration(
        name="shy", collection="things", filter={"a": {"$exists": False}}, mark="filter", transform=shy
    )
    found = migrate(store, it)
    assert found.run.status is RunStatus.COMPLETED
    assert found.failures == counted(database, found.run.id)
    assert (found.counts.skipped, found.failed_batches) == (BAD, 0)


def test_another_migration_another_version_and_another_collection_keep_their_own(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    database["others"].insert_many(list(database["things"].find()))
    kinds = [
        IT,
        Migration(name="picky", version=2, collection="things", filter={"n": {"$gte": 0}}, transform=picky),
        Migration(name="other", collection="things", filter={"n": {"$gte": 0}}, transform=picky),
        Migration(name="there", collection="others", filter={"n": {"$gte": 0}}, transform=picky),
    ]
    for it in kinds * 2:
        migrate(store, it)
    assert database["whimbrel_failures"].count_documents({}) == BAD * len(kinds)


def test_a_run_whose_failures_a_later_one_took_over_is_still_verified(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    first, second = migrate(store, IT).run, migrate(store, IT).run
    for run in (first, second):
        checking = start_verification(store, run.id, IT.definition, who="test", defaults=DEFAULTS, sample=0)
        with system(store, [IT]):
            found = until(store, checking)
        left = {each.check: each.proved for each in found.run.report}
        assert left["nothing left"] is True, [each.sentence for each in found.run.report]


def test_what_a_verification_or_a_rollback_records_takes_the_place_of_nothing(
    store: MongoStore, database: Data
) -> None:
    seed(database)
    old = migrate(store, IT).run
    run, (batch, *_) = working(store, database)
    kinds: list[RunKind] = ["verification", "rollback", "cleanup"]
    for number, kind in enumerate(kinds):
        other = replace(run, id=f"{run.id}{number}", kind=kind)
        store.ledger.failures.record(other, replace(batch, run=other.id), [trouble(3, FailureKind.CONFLICT)])
    assert store.ledger.failures.counts(old.id)["dead"] == BAD
    store.ledger.failures.record(run, batch, [trouble(3)])
    assert store.ledger.failures.counts(old.id)["dead"] == BAD - 1
    assert database["whimbrel_failures"].count_documents({"key._id": 3}) == len(kinds) + 1


def test_success_of_a_later_run_resolves_and_the_older_run_says_so(store: MongoStore, database: Data) -> None:
    seed(database)
    first = migrate(store, IT).run
    database["things"].update_many({"n": {"$lt": BAD}}, {"$inc": {"n": 1000}})
    assert migrate(store, IT).run.status is RunStatus.COMPLETED
    assert store.ledger.failures.counts(first.id) == {"open": 0, "dead": 0, "failed": 0, "conflict": 0}
    assert counted(database, first.id)["dead"] == 0
    assert view(store.ledger, current(store, first)).failed_batches == 0


def test_a_retry_moves_the_numbers_to_the_batch_that_tried_last(store: MongoStore, database: Data) -> None:
    seed(database)
    run = migrate(store, IT).run
    database["things"].update_many({"n": {"$lt": BAD // 2}}, {"$inc": {"n": 1000}})
    retry(store.ledger, run.id, who="test")
    with system(store, [IT]):
        found = until(store, run)
    assert found.failures == counted(database, run.id)
    assert found.failures["dead"] == BAD // 2
    dead = database["whimbrel_failures"].find({"run": run.id, "state": "dead"})
    assert found.failed_batches == len({row["batch"] for row in dead})


def test_the_last_look_of_a_run_with_many_failures_is_paged_and_right(
    store: MongoStore, database: Data
) -> None:
    seed(database, 1300)
    it = Migration(name="all-bad", collection="things", update=[{"$set": {"a": {"$divide": [1, 0]}}}])
    found = migrate(store, it, batch_size=500)
    assert found.failures["dead"] == 1300
    assert found.run.message == "Nothing eligible is left but the failures and what was passed over."
    pages = list(store.ledger.failures.excluded_pages(found.run.id))
    assert [len(page) for page in pages] == [1000, 300]
