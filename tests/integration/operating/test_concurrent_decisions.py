"""What somebody asks for is decided upon the ledger as it was a moment ago: what happens in that moment is heeded."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from tests.integration.operating.test_scheduler import hourly, row, runs, scheduler
from tests.integration.running.test_races import (
    PATIENCE,
    Slot,
    add_one,
    coordinator_of,
    fresh,
    happens,
    once_after,
    planned,
    seed,
    statuses,
)
from whimbrel import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.coordinating.coordinator import Coordinator
from whimbrel.engine.operating import schedules
from whimbrel.engine.operating.control import cancel, pause, resume, retry
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.engine.queueing import queues
from whimbrel.errors import StateForbids, Transient
from whimbrel.mongo.documents import MongoDocuments
from whimbrel.mongo.store import MongoStore
from whimbrel.ports.ledger import CONSUMERS

Data = Database[dict[str, Any]]
ADDING = Migration(name="adding", collection="things", undo=True, transform=add_one)


@pytest.mark.parametrize(("act", "becomes"), [(cancel, RunStatus.CANCELLING), (pause, RunStatus.PAUSING)])
def test_a_run_that_begins_just_then_is_cancelled_or_paused_nevertheless(
    store: MongoStore,
    database: Data,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[..., Run],
    becomes: RunStatus,
) -> None:
    """It was queued when it was looked at, and is running when it is to change."""
    seed(database, 300)
    coordinator = coordinator_of(store)
    run = start(store, Migration(name="adding", collection="things", transform=add_one))
    with monkeypatch.context() as patch:
        begins = partial(ticks_until, RunStatus.RUNNING, store, coordinator, run)
        once_after(patch, store.ledger.runs, "get", begins)
        assert act(store.ledger, run.id, who="test").status is becomes


def test_a_run_that_began_and_queues_again_is_not_cancelled_before_it_has_drained(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(database, 300)
    coordinator = coordinator_of(store)
    run = start(store, Migration(name="adding", collection="things", transform=add_one))

    def back() -> None:
        ticks_until(RunStatus.RUNNING, store, coordinator, run)
        pause(store.ledger, run.id, who="another")
        ticks_until(RunStatus.PAUSED, store, coordinator, run)
        resume(store.ledger, run.id, who="another")

    with monkeypatch.context() as patch:
        once_after(patch, store.ledger.runs, "get", back)
        assert cancel(store.ledger, run.id, who="test").status is RunStatus.CANCELLING


def ticks_until(status: RunStatus, store: MongoStore, coordinator: Coordinator, run: Run) -> None:
    def come() -> bool:
        coordinator.tick()
        return fresh(store, run).status is status

    happens(come)


def test_a_run_that_fails_keeps_its_collection_until_nobody_works_on_it(
    store: MongoStore, database: Data
) -> None:
    """Under mark "filter" one batch shows that the filter stays true, while the other is in the function."""
    seed(database, 400)
    in_work, go_on = threading.Event(), threading.Event()

    def again(thing: dict[str, Any]) -> dict[str, Any]:
        if thing["_id"] == 0:
            assert in_work.wait(PATIENCE)
        if thing["_id"] == 399:
            in_work.set()
            assert go_on.wait(PATIENCE)
        return add_one(thing)

    it = Migration(
        name="again", collection="things", mark="filter", filter={"n": {"$gte": 0}}, transform=again
    )
    with system(store, [it, ADDING]):
        run, waiting = start(store, it, batch_size=200), start(store, ADDING)
        happens(lambda: fresh(store, run).error)
        time.sleep(0.5)  # many ticks
        assert statuses(store, run) == [RunStatus.PAUSING, BatchStatus.DONE, BatchStatus.RUNNING]
        assert fresh(store, waiting).status is RunStatus.QUEUED
        go_on.set()
        assert "mark='filter' needs" in str(until(store, run, RunStatus.FAILED).run.error)
        assert until(store, waiting).run.status is RunStatus.COMPLETED


# undoing


def test_of_two_rollbacks_at_once_one_is_refused(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(database, 30)
    run = migrate(store, ADDING).run
    undo = partial(start_rollback, store, run.id, who="test", defaults=DEFAULTS)
    with monkeypatch.context() as patch:
        once_after(patch, store.ledger.runs, "list", undo)
        with pytest.raises(StateForbids, match="changed at the same moment"):
            undo()
    (only,) = store.ledger.runs.list(of=run.id)
    assert fresh(store, run).undone_by == only.id


def test_a_verification_is_of_the_run_as_it_is_while_its_rollback_waits(
    store: MongoStore, database: Data
) -> None:
    """It was asked for before the rollback, which has undone nothing yet."""
    seed(database, 300)
    run = migrate(store, ADDING).run
    verification = start_verification(store, run.id, ADDING.definition, who="test", defaults=DEFAULTS)
    back = start_rollback(store, run.id, who="test", defaults=DEFAULTS)
    assert fresh(store, run).undone_by == back.id
    with system(store, [ADDING]):
        told = until(store, verification).run
        assert until(store, back).run.status is RunStatus.COMPLETED
        again = start_verification(store, run.id, ADDING.definition, who="test", defaults=DEFAULTS)
        after = until(store, again).run
    assert told.status is RunStatus.COMPLETED, told.report
    assert "nothing left" in [each.check for each in told.report]
    assert [each.check for each in after.report if each.proved][-1] == "taken back"


def test_a_rollback_that_never_began_does_not_hide_the_one_before(store: MongoStore, database: Data) -> None:
    seed(database, 30)
    run = migrate(store, ADDING).run
    first = start_rollback(store, run.id, who="test", defaults=DEFAULTS)
    with system(store, [ADDING]):
        until(store, first)
    second = start_rollback(store, run.id, who="test", defaults=DEFAULTS)
    assert cancel(store.ledger, second.id, who="test").status is RunStatus.CANCELLED
    verification = start_verification(store, run.id, ADDING.definition, who="test", defaults=DEFAULTS)
    with system(store, [ADDING]):
        told = until(store, verification).run
    assert told.status is RunStatus.COMPLETED
    assert "taken back" in [each.check for each in told.report if each.proved]


def test_a_run_that_is_resumed_while_it_is_about_to_pause_goes_on(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it would have failed: the coordinator has counted that nobody works on it."""
    seed(database, 30)
    coordinator = coordinator_of(store)
    run = planned(store, coordinator, ADDING)
    store.ledger.runs.move(
        run.id, RunStatus.PAUSING, who="a worker", fields={"error": "wrong", "failing": True}
    )
    with monkeypatch.context() as patch:
        resumes = partial(resume, store.ledger, run.id, who="test")
        once_after(patch, store.ledger.batches, "count", resumes)
        coordinator.tick()
    now = fresh(store, run)
    assert (now.status, now.error, now.failing) == (RunStatus.RUNNING, None, False)


# trying again


def poison(thing: dict[str, Any]) -> dict[str, Any]:
    raise ValueError("one" if thing["_id"] % 2 else "two")


FAILING = Migration(name="failing", collection="things", transform=poison)


def failed(store: MongoStore, database: Data) -> Run:
    seed(database, 4)
    run = migrate(store, FAILING).run
    assert run.status is RunStatus.COMPLETED_WITH_FAILURES
    return run


def test_of_two_retries_at_once_both_are_carried_out(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = failed(store, database)
    one, two = (each.group for each in store.ledger.failures.groups(run.id).groups)
    again = partial(retry, store.ledger, run.id, who="test")
    with monkeypatch.context() as patch:
        once_after(patch, store.ledger.runs, "get", lambda: again(group=one))
        found, opened = again(group=two)
    assert (found.status, opened) == (RunStatus.QUEUED, 2)
    assert store.ledger.failures.counts(run.id)["open"] == 4


def test_a_retry_with_other_code_is_not_taken_for_one_that_goes_on_with_it(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = failed(store, database)
    again = partial(retry, store.ledger, run.id, who="test")
    with monkeypatch.context() as patch:
        once_after(patch, store.ledger.runs, "get", again)
        with pytest.raises(StateForbids):
            again(code=replace(ADDING.definition, code_hash="newer"))
    assert fresh(store, run).code_hash == run.code_hash
    assert database["whimbrel_audit"].count_documents({"what": {"$regex": "replaced"}}) == 0


def test_a_retry_that_was_cut_off_can_be_asked_for_again(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failures are open, and the run has not been set going."""
    run = failed(store, database)
    with monkeypatch.context() as patch:

        def broken(*_: Any, **__: Any) -> None:
            raise Transient("no answer")

        patch.setattr(store.ledger.runs, "move", broken)
        with pytest.raises(Transient):
            retry(store.ledger, run.id, who="test")
    assert store.ledger.failures.counts(run.id)["open"] == 4
    retry(store.ledger, run.id, who="test")
    with system(store, [FAILING]):
        assert until(store, run).run.status is RunStatus.COMPLETED_WITH_FAILURES
    assert store.ledger.failures.counts(run.id)["dead"] == 4


def test_a_worker_that_lost_its_batch_in_the_function_leaves_no_failure(
    store: MongoStore, database: Data
) -> None:
    """It has slept for longer than its lease; another has migrated the document since, and the function raises when it wakes."""
    seed(database, 1)
    taken, wake = threading.Event(), threading.Event()

    def sleeping(thing: dict[str, Any]) -> dict[str, Any]:
        if not taken.is_set():
            taken.set()
            assert wake.wait(PATIENCE)
            raise ConnectionError("the connection died while it slept")
        return add_one(thing)

    it = Migration(name="sleeping", collection="things", transform=sleeping)
    run = planned(store, coordinator_of(store), it)
    with Slot(store, it) as sleeper:
        sleeper.thread.start()
        assert taken.wait(PATIENCE)
        assert store.ledger.batches.take_over(worker="by hand")
        with system(store, [it]):
            assert until(store, run).run.status is RunStatus.COMPLETED
        sleeper.worker_state.drain()
        wake.set()
    assert database["things"].count_documents({"n": 1}) == 1
    assert store.ledger.failures.list(run.id) == []


def test_a_statement_that_comes_too_late_for_its_lease_is_made_again(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process slept between deciding and sending, and nobody has taken the batch over yet."""
    seed(database, 30)
    it = Migration(name="late", collection="things", update={"$inc": {"n": 1}})
    real, slept = MongoDocuments.update_range, list[float]()

    def late(*given: Any, **options: Any) -> int:
        if not slept:
            slept.append(SHORT.lease + 0.2)
            time.sleep(slept[0])
        return real(*given, **options)

    monkeypatch.setattr(MongoDocuments, "update_range", late)
    with system(store, [it]):
        found = until(store, start(store, it, limit=30))
    assert (found.run.status, found.run.counts.changed) == (RunStatus.COMPLETED, 30)
    assert database["things"].count_documents({"n": 1}) == 30


# switches


def test_a_tick_that_is_being_decided_while_the_scheduler_is_stopped_starts_nothing(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hourly(store)
    with monkeypatch.context() as patch:
        once_after(
            patch, store.ledger.schedules, "snapshot", lambda: schedules.switch_off(store.ledger, who="test")
        )
        scheduler(store).tick()
    assert not runs(store)
    assert row(store).pending is None


def test_consumers_that_are_stopped_during_a_restart_stay_stopped(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = store.ledger.leases
    with monkeypatch.context() as patch:
        stops = partial(leases.switch, CONSUMERS, on=False, who="another")
        once_after(patch, store.ledger.batches, "open_counts", stops)
        assert queues.restart(store.ledger, 1, "test")
    assert leases.is_off(CONSUMERS)
    audit = (
        store.client[store.database]["whimbrel_audit"].find({"what": f"{CONSUMERS} stopped"}).sort("at", 1)
    )
    assert [each["who"] for each in audit] == ["test", "another"]
    assert queues.restart(store.ledger, 1, "test")
    assert not leases.is_off(CONSUMERS)
