"""Runs over exactly the documents that are named: under each mark, through failures, crashes and half-stored ids."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from bson import Int64, ObjectId
from bson.decimal128 import Decimal128
from pymongo.database import Database

from tests.integration.in_process_system import DEFAULTS, system, until
from whimbrel import SKIP, Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import RunView
from whimbrel.engine.operating.start_by_ids import BATCHES, ChosenIds, choose_ids, start_by_ids
from whimbrel.errors import StateForbids, Transient
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]


def chosen(
    store: MongoStore, it: Migration, ids: Sequence[Any], *, batch_size: int | None = None
) -> ChosenIds:
    keys = [Key.of(each) for each in ids]
    return choose_ids(store, it.definition, keys, defaults=DEFAULTS, batch_size=batch_size)


def begin(store: MongoStore, it: Migration, ids: Sequence[Any], **options: Any) -> Run:
    return start_by_ids(store, it.definition, chosen(store, it, ids, **options), who="test")


def migrate(store: MongoStore, it: Migration, ids: Sequence[Any], **options: Any) -> RunView:
    with system(store, [it]):
        return until(store, begin(store, it, ids, **options))


def seed(database: Data, count: int) -> None:
    database["things"].insert_many([{"_id": i, "n": 0, "status": "pending"} for i in range(count)])


def changed(database: Data) -> list[Any]:
    return [each["_id"] for each in database["things"].find({"n": 1}).sort("_id", 1)]


def adding(thing: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {"n": thing["n"] + 1}}


ALL = [
    Migration(name="marker", collection="things", update={"$inc": {"n": 1}}),
    Migration(name="status", collection="things", mark="status", update={"$inc": {"n": 1}}),
    Migration(name="filter", collection="things", mark="filter", filter={"n": 0}, update={"$inc": {"n": 1}}),
    Migration(name="marker-f", collection="things", transform=adding),
    Migration(name="status-f", collection="things", mark="status", transform=adding),
    Migration(name="claim-f", collection="things", mark="status", claim=True, transform=adding),
    Migration(name="filter-f", collection="things", mark="filter", filter={"n": 0}, transform=adding),
]


@pytest.mark.parametrize("it", ALL, ids=lambda it: it.name)
def test_exactly_the_documents_named_are_changed_once(
    store: MongoStore, database: Data, it: Migration
) -> None:
    seed(database, 100)
    wanted = list(range(0, 100, 3))
    found = migrate(store, it, [*wanted, 1000, "odd", *wanted], batch_size=10)
    assert (found.run.status, found.counts.changed, found.progress) == (RunStatus.COMPLETED, 34, 100.0)
    assert changed(database) == wanted
    again = migrate(store, it, wanted, batch_size=10)  # done already: not touched
    assert (again.run.status, again.counts.total, changed(database)) == (RunStatus.COMPLETED, 0, wanted)
    assert not found.run.inferred


def test_ids_are_looked_up_before_anything_is_written(store: MongoStore, database: Data) -> None:
    stored = [
        5,
        6.0,
        Int64(7),
        Decimal128("8"),
        "5",
        ObjectId("65a1b2c3d4e5f60718293a4b"),
        None,
        True,
        {"a": 1},
        {"a": 2.0},
    ]
    database["things"].insert_many([{"_id": each, "n": 0} for each in stored])
    given = [
        5, Int64(5), 6, 7, 8.0, "5", ObjectId("65a1b2c3d4e5f60718293a4b"), ObjectId("65a1b2c3d4e5f60718293a4c"), None, True, False,
        {"a": 1}, {"a": 2}, {"a": 3}, 9, "6", float("nan"),
    ]  # fmt: skip
    found = chosen(store, ALL[0], given)
    assert {key.raw for key in found.keys} == {Key.of(each).raw for each in stored}
    missing = [ObjectId("65a1b2c3d4e5f60718293a4c"), False, {"a": 3}, 9, "6", float("nan")]
    assert {key.raw for key in found.unknown} == {Key.of(each).raw for each in missing}
    assert (found.eligible, found.batches) == (10, 1)
    assert store.ledger.runs.list() == []
    with system(store, [ALL[0]]):
        assert until(store, start_by_ids(store, ALL[0].definition, found, who="test")).counts.changed == 10


@pytest.mark.parametrize("it", [ALL[0], ALL[3]], ids=lambda it: it.name)
def test_failures_are_retried_and_reopened(store: MongoStore, database: Data, it: Migration) -> None:
    seed(database, 50)
    database["things"].update_many({"_id": {"$in": [3, 4, 40]}}, {"$set": {"n": "text"}})
    found = migrate(store, it, range(10), batch_size=4)
    assert found.run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert (found.counts.changed, found.failures["dead"]) == (8, 2)
    database["things"].update_many({"n": "text"}, {"$set": {"n": 0}})
    with system(store, [it]):
        control.retry(store.ledger, found.run.id, who="test")
        again = until(store, found.run, RunStatus.COMPLETED)
    assert (again.counts.changed, changed(database)) == (10, list(range(10)))


@pytest.mark.parametrize("it", ALL, ids=lambda it: it.name)
def test_a_batch_that_is_worked_through_again_counts_once(
    store: MongoStore, database: Data, it: Migration
) -> None:
    seed(database, 60)
    database["things"].insert_one({"_id": 60, "n": "text", "status": "pending"})
    lost = threading.Event()

    def step(name: str) -> None:
        if name == "S6" and not lost.is_set():  # as if the process had died after this write
            lost.set()
            query = {"status": "running"}
            database["whimbrel_batches"].update_many(query, {"$set": {"owner": "lost"}})
            store.ledger.batches.take_over(worker="inline")

    with system(store, [it], step=step, slots=1):
        found = until(store, begin(store, it, range(61), batch_size=30))
    assert lost.is_set()
    assert found.counts.changed == 60
    assert len(changed(database)) == 60
    expected = 0 if it.definition.mark == "filter" else 1  # text is not of that filter
    assert found.failures["failed"] == expected


def test_what_the_function_passes_over_is_remembered(store: MongoStore, database: Data) -> None:
    seed(database, 30)
    called: list[int] = []

    def sorting(thing: dict[str, Any]) -> Any:
        called.append(thing["_id"])
        return [SKIP, {"$set": {"n": 0}}, {"$set": {"n": 1}}][thing["_id"] % 3]

    it = Migration(name="sorting", collection="things", mark="filter", filter={"n": 0}, transform=sorting)
    lost = threading.Event()

    def step(name: str) -> None:
        if name == "S6" and not lost.is_set():
            lost.set()
            database["whimbrel_batches"].update_many({"status": "running"}, {"$set": {"owner": "lost"}})
            store.ledger.batches.take_over(worker="inline")

    with system(store, [it], step=step, slots=1):
        found = until(store, begin(store, it, range(30)))
    assert (found.counts.changed, found.counts.unchanged, found.counts.skipped) == (10, 10, 10)
    assert sorted(called) == list(range(30))


def test_a_process_killed_by_a_document_is_charged_to_it(store: MongoStore, database: Data) -> None:
    """A solo batch of ids: its suspect is a failure, its neighbours are done."""
    seed(database, 10)
    it = ALL[3]
    run = begin(store, it, range(10))
    database["whimbrel_batches"].update_one(
        {"seq": 1}, {"$set": {"solo": True, "claims": 2, "suspect": {"_id": 4}}}
    )
    with system(store, [it]):
        found = until(store, run, RunStatus.COMPLETED)
    rows = store.ledger.failures.list(run.id)
    assert [(row.key.value, row.type, row.state) for row in rows] == [(4, "ProcessDeath", "resolved")]
    assert (found.counts.changed, changed(database)) == (10, list(range(10)))


def test_batches_are_bounded_in_number_and_in_bytes(store: MongoStore, database: Data) -> None:
    long_ids = [f"{i:03}" + "x" * 900_000 for i in range(12)]
    for each in long_ids:
        database["things"].insert_one({"_id": each, "n": 0})
    database["things"].insert_many([{"_id": i, "n": 0} for i in range(3000)])
    run = begin(store, ALL[0], long_ids)
    sizes = [len(row.ids) for row in store.ledger.batches.list(run.id) if row.ids is not None]
    assert sizes == [4, 4, 4]
    control.cancel(store.ledger, run.id, who="test")
    run = begin(store, ALL[0], range(3000), batch_size=1)
    rows = store.ledger.batches.list(run.id, limit=2000)
    assert [len(row.ids or ()) for row in rows] == [3] * BATCHES + [0]
    assert [row.status for row in rows][-1] is BatchStatus.DONE
    assert [key.value for row in rows for key in row.ids or ()] == list(range(3000))


def test_ids_that_were_not_all_stored_are_never_taken_for_all(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever stores them dies in the middle: the run stands paused, and resuming it pauses it again with the reason."""
    seed(database, 30)
    it = ALL[0]
    add = store.ledger.batches.add

    def dies(batches: Sequence[Any]) -> int:
        add(batches[:2])
        raise KeyboardInterrupt

    monkeypatch.setattr(store.ledger.batches, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        begin(store, it, range(30), batch_size=10)
    monkeypatch.undo()
    run = store.ledger.runs.list()[0]
    assert (run.status, run.message) == (RunStatus.PAUSED, "Its ids are being stored.")
    with system(store, [it]):
        control.resume(store.ledger, run.id, who="test")
        found = until(store, run, RunStatus.PAUSED)
        while found.run.error is None:
            found = until(store, run, RunStatus.PAUSED)
        assert "send them again" in found.run.error
        control.cancel(store.ledger, run.id, who="test")
        gone = until(store, run, RunStatus.CANCELLED)
        assert gone.counts.changed == len(changed(database)) <= 20
        whole = until(store, begin(store, it, range(30), batch_size=10))
    assert whole.run.status is RunStatus.COMPLETED
    assert changed(database) == list(range(30))


def test_a_ledger_that_does_not_answer_leaves_no_run_that_could_go_on(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(database, 5)

    def away(batches: Sequence[Any]) -> int:
        raise Transient("away")

    monkeypatch.setattr(store.ledger.batches, "add", away)
    with pytest.raises(Transient):
        begin(store, ALL[0], range(5))
    monkeypatch.undo()
    with system(store, [ALL[0]]):
        until(store, store.ledger.runs.list()[0], RunStatus.CANCELLED)
    assert changed(database) == []


def test_cancelled_while_its_ids_are_stored(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(database, 5)
    add = store.ledger.batches.add

    def slow(batches: Sequence[Any]) -> int:
        run = control.cancel(store.ledger, batches[0].run, who="test")
        until(store, run, RunStatus.CANCELLED)
        return add(batches)

    monkeypatch.setattr(store.ledger.batches, "add", slow)
    with system(store, [ALL[0]]):
        with pytest.raises(StateForbids, match="was cancelled"):
            begin(store, ALL[0], range(5))
        monkeypatch.undo()
        run = store.ledger.runs.list()[0]
    rows = store.ledger.batches.list(run.id)
    assert {row.status for row in rows if row.ids} == {BatchStatus.CANCELLED}
    assert changed(database) == []
