"""Threads that meet at the worst moment: a seam of Whimbrel's own is held open until the other has come."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import nothing, start, system, until
from whimbrel import Migration
from whimbrel.brokers.ledger import LedgerBroker, LedgerFeed, Look
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.coordinating.coordinator import Coordinator
from whimbrel.engine.operating.control import cancel
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.engine.running.heartbeat import keep_heartbeat
from whimbrel.engine.running.slot import run_slot
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.errors import LeaseLost, Refused, Systemic, WhimbrelError
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
PATIENCE = 60.0  # seconds, after which a test gives up


def happens(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.002)


def seed(database: Data, count: int) -> None:
    database["things"].insert_many([{"_id": number, "n": 0} for number in range(count)])


def coordinator_of(store: MongoStore) -> Coordinator:
    """One that the test ticks by hand."""
    announcer = Announcer(store.ledger, LedgerBroker(), pause=SHORT.broker)
    return Coordinator(store, announcer, name="inline", role_seconds=SHORT.lease, step=nothing)


def planned(store: MongoStore, coordinator: Coordinator, it: Migration) -> Run:
    """A run whose first phase is planned to its end, and that no worker knows yet."""
    run = start(store, it)
    while not any(each.last for each in store.ledger.batches.list(run.id)):
        coordinator.tick()
    return run


def fresh(store: MongoStore, run: Run) -> Run:
    found = store.ledger.runs.get(run.id)
    assert found is not None
    return found


def statuses(store: MongoStore, run: Run) -> list[RunStatus | BatchStatus]:
    """The run's own, then those of its batches."""
    return [fresh(store, run).status, *(each.status for each in store.ledger.batches.list(run.id))]


def add_one(thing: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {"n": thing["n"] + 1}}


def joined(thread: threading.Thread) -> None:
    if thread.ident is not None:  # it was started
        thread.join(PATIENCE)
        assert not thread.is_alive()


def once_after(patch: pytest.MonkeyPatch, owner: object, method: str, act: Callable[[], object]) -> None:
    """Act between the next call of a method and what its caller makes of the answer."""
    real, left = getattr(owner, method), [act]

    def interrupted(*args: Any, **options: Any) -> Any:
        found = real(*args, **options)
        if left:
            left.pop()()
        return found

    patch.setattr(owner, method, interrupted)


class Slot:
    """A worker process with one slot, as a thread that the test starts; it knows the runs that there are now."""

    def __init__(self, store: MongoStore, it: Migration, *, step: Callable[[str], None] = nothing) -> None:
        self.worker_state = WorkerState({it.name: it}, "by hand", None)
        self.worker_state.refresh(store)
        self.thread = threading.Thread(
            target=run_slot,
            args=(store, self.worker_state, LedgerFeed()),
            kwargs={"times": SHORT, "step": step},
        )

    def end(self) -> None:
        self.worker_state.drain()
        joined(self.thread)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


# cancelling


class Late(Slot):
    """A worker that learns of what happens to a run only after it has claimed a batch."""

    def __init__(self, store: MongoStore, it: Migration) -> None:
        super().__init__(store, it, step=self._at)
        self._claimed, self._let_go = threading.Event(), threading.Event()

    def claim(self) -> None:
        self.thread.start()
        assert self._claimed.wait(PATIENCE)

    def give_back(self) -> None:
        self.worker_state.drain()  # it takes nothing else, then
        self._let_go.set()
        super().end()

    def end(self) -> None:
        self._let_go.set()
        super().end()

    def _at(self, step: str) -> None:
        if step == "S3":
            self._claimed.set()
            assert self._let_go.wait(PATIENCE)


@pytest.mark.parametrize("given_back", ["before the last look", "after the last look"])
def test_a_run_is_cancelled_only_when_a_worker_that_did_not_know_has_given_its_batch_back(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch, given_back: str
) -> None:
    """It claims after the coordinator has counted who works, and before it settles what is queued."""
    seed(database, 300)
    it = Migration(name="adding", collection="things", batch_size=200, transform=add_one)
    coordinator, batches = coordinator_of(store), store.ledger.batches
    run = planned(store, coordinator, it)
    done = begin_the_first_batch(store, database, it)
    with Late(store, it) as late:
        cancel(store.ledger, run.id, who="test")
        with monkeypatch.context() as patch:
            once_after(patch, batches, "count", late.claim)
            if given_back == "before the last look":
                once_after(patch, batches, "list", late.give_back)
            coordinator.tick()
        first = BatchStatus.QUEUED if given_back == "before the last look" else BatchStatus.RUNNING
        assert statuses(store, run) == [RunStatus.CANCELLING, first, BatchStatus.CANCELLED]
        coordinator.tick()
        if given_back == "after the last look":
            assert statuses(store, run) == [RunStatus.CANCELLING, first, BatchStatus.CANCELLED]
            late.give_back()
            coordinator.tick()
    assert statuses(store, run) == [RunStatus.CANCELLED, BatchStatus.CANCELLED, BatchStatus.CANCELLED]
    assert [each.claims for each in batches.list(run.id)] == [2, 0]
    assert database["things"].count_documents({"n": {"$ne": 0}}) == done
    assert (fresh(store, run).folded_through, fresh(store, run).counts) == (2, Counts(changed=done))


def begin_the_first_batch(store: MongoStore, database: Data, it: Migration) -> int:
    """A worker drains after its first chunk and gives the batch back: how many documents it has changed."""

    def leave(step: str) -> None:
        if step == "S6":
            early.worker_state.drain()
            early.worker_state.refresh(store)

    with Slot(store, it, step=leave) as early:
        early.thread.start()
        early.thread.join(PATIENCE)
    done = database["things"].count_documents({"n": 1})
    assert 0 < done < 200
    return done


# the heartbeat


@pytest.mark.parametrize(
    ("where", "error"),
    [
        ("renew", Systemic("not authorized")),
        ("at_work", Systemic("not authorized")),
        ("at_work", LeaseLost("taken over")),
        ("beat", Refused("refused")),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_the_heartbeat_outlives_whatever_the_ledger_says(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch, where: str, error: WhimbrelError
) -> None:
    """Else the leases of the whole process would end, of batches that go on."""
    seed(database, 3)
    in_hand, let_go = threading.Event(), threading.Event()

    def holding(thing: dict[str, Any]) -> dict[str, Any]:
        in_hand.set()
        assert let_go.wait(PATIENCE)
        return add_one(thing)

    it = Migration(name="holding", collection="things", transform=holding)
    run = planned(store, coordinator_of(store), it)
    ledger = store.ledger
    owner = {"renew": ledger.batches, "at_work": ledger.runs, "beat": ledger.leases}[where]
    with Slot(store, it) as slot, Heart(store, slot.worker_state) as heart:
        try:
            slot.thread.start()
            assert in_hand.wait(PATIENCE)
            raised = fail_once(monkeypatch, owner, where, error)
            heart.thread.start()
            assert raised.wait(PATIENCE)
            for _ in range(2):
                until_renewed(store, run)
        finally:
            let_go.set()
        happens(lambda: the_batch(store, run).status is BatchStatus.DONE)
        assert heart.thread.is_alive()
    over = the_batch(store, run)
    assert (over.claims, over.takeovers, over.counts) == (1, 0, Counts(changed=3))
    assert not heart.died


class Heart:
    """The thread that `watch` is."""

    def __init__(self, store: MongoStore, worker_state: WorkerState) -> None:
        self.died, self._worker_state = list[str](), worker_state
        about = {"host": "here", "pid": 0, "version": "0", "slots": 1}
        facts = {
            "times": SHORT,
            "die": lambda: self.died.append("died"),
            "beat": lambda: None,
            "about": about,
        }
        self.thread = threading.Thread(target=keep_heartbeat, args=(store, worker_state), kwargs=facts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._worker_state.ended.set()
        joined(self.thread)


def fail_once(patch: pytest.MonkeyPatch, owner: object, method: str, error: WhimbrelError) -> threading.Event:
    """The next call of a method raises this; the event says that it has."""
    real, raised = getattr(owner, method), threading.Event()

    def failing(*args: Any, **options: Any) -> Any:
        if not raised.is_set():
            raised.set()
            raise error
        return real(*args, **options)

    patch.setattr(owner, method, failing)
    return raised


def the_batch(store: MongoStore, run: Run) -> Batch:
    (found,) = store.ledger.batches.list(run.id)
    return found


def until_renewed(store: MongoStore, run: Run) -> None:
    before = the_batch(store, run).lease_until
    assert before is not None
    happens(lambda: the_batch(store, run).lease_until != before)


# solo


class Watched(LedgerFeed):
    """Says how often slots have asked for work. Until `taken`, only the slot that asked first gets some."""

    def __init__(self, taken: threading.Event) -> None:
        self.asked = 0
        self._taken, self._first = taken, list[int]()

    def next(self, seconds: float, *, urgent: bool) -> Look | None:
        self.asked += 1
        self._first.append(threading.get_ident())
        if self._first[0] == threading.get_ident() or self._taken.wait(seconds):
            return super().next(seconds, urgent=urgent)
        return None


class Neighbours:
    """Four documents in batches of one, some solo. Who has the first one keeps it until `let_go`: in the function, or only claimed."""

    def __init__(self, store: MongoStore, *, solo: set[int], held: bool) -> None:
        self._store, self._solo, self._held = store, solo, held
        self.taken, self.let_go, self.called = threading.Event(), threading.Event(), threading.Event()
        self.feed = Watched(self.taken)
        self._first = threading.Lock()  # whoever comes first never gives it back
        self.order: list[int] = []  # of calls
        self.alone: dict[
            int, bool
        ] = {}  # while a solo document was in the function: no other call, no other batch in work
        self._asked, self._elsewhere = 0, threading.Event()
        self.migration = Migration(name="by-slots", collection="things", batch_size=1, transform=self._change)

    def at(self, step: str) -> None:
        if step == "S3" and not self._held:
            self._keep()

    def free(self) -> None:
        self._asked = self.feed.asked
        self.let_go.set()

    def _keep(self) -> None:
        if self._first.acquire(blocking=False):
            self.taken.set()
            assert self.let_go.wait(PATIENCE)

    def _running(self) -> int:
        runs = self._store.ledger.runs.list()
        return sum(self._store.ledger.batches.count(run.id, [BatchStatus.RUNNING]) for run in runs)

    def _change(self, thing: dict[str, Any]) -> dict[str, Any]:
        key = thing["_id"]
        self.order.append(key)
        if key in self._solo:
            before = len(self.order), self._running()
            self.called.set()
            if self.let_go.is_set() and key == 1:  # the neighbour is free, looks for work, and must get none
                happens(lambda: self.feed.asked > self._asked)
                self._elsewhere.wait(0.5)
            after = len(self.order), self._running()
            self.alone[key] = before == after and before[1] == 1
        elif key == 0:
            self._keep()
        else:
            self._elsewhere.set()
        return add_one(thing)


@pytest.mark.parametrize("neighbour", ["held", "claimed", "claimed and solo too"])
def test_a_solo_batch_runs_while_no_other_slot_of_its_process_has_one(
    store: MongoStore, database: Data, neighbour: str
) -> None:
    """The neighbour has the first batch; the other slot gets the second, which is solo."""
    seed(database, 4)
    solo = {0, 1} if neighbour == "claimed and solo too" else {1}
    these = Neighbours(store, solo=solo, held=neighbour == "held")
    run = planned(store, coordinator_of(store), these.migration)
    database["whimbrel_batches"].update_many(
        {"seq": {"$in": [key + 1 for key in solo]}}, {"$set": {"solo": True}}
    )
    with system(store, [these.migration], slots=2, step=these.at, feed=these.feed) as worker_state:
        try:
            happens(these.taken.is_set)
            happens(worker_state.solo.locked)
            waited = set[float]()  # rounds of waiting; work makes fewer before it calls the function

            def waits() -> bool:
                holds = [each for each in list(worker_state.holds.values()) if each.batch.seq == 2]
                waited.update(each.progress for each in holds)
                return len(waited) > 10

            happens(lambda: these.called.is_set() or waits())
            assert not these.called.is_set(), "it is not alone"
        finally:
            these.free()
        found = until(store, run)
    assert these.alone == dict.fromkeys(solo, True)
    assert these.order[: these.order.index(1)] == [key for key in (0,) if key not in solo]
    assert (found.run.status, found.run.counts) == (RunStatus.COMPLETED, Counts(changed=4))
    assert database["things"].count_documents({"n": 1}) == 4


# slots


@pytest.mark.parametrize("where", ["claim", "get"])
def test_a_slot_outlives_what_the_ledger_says_to_its_claim(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Else its process has a slot less; and a token stays in `taken`, for which a solo batch would wait for ever."""
    seed(database, 4)
    it = Migration(name="adding", collection="things", batch_size=2, transform=add_one)
    run = planned(store, coordinator_of(store), it)
    ledger = store.ledger
    with Slot(store, it) as slot:
        owner = {"claim": ledger.batches, "get": ledger.runs}[where]
        fail_once(monkeypatch, owner, where, Systemic("not authorized"))
        slot.thread.start()
        done = [BatchStatus.DONE]
        happens(lambda: not slot.thread.is_alive() or ledger.batches.count(run.id, done))
        assert slot.thread.is_alive()
        happens(lambda: not slot.worker_state.taken)


def test_a_slot_that_cannot_give_its_batch_back_pauses_the_run_and_lives(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed(database, 2)
    it = Migration(name="adding", collection="things", transform=add_one)
    run = planned(store, coordinator_of(store), it)
    batches = store.ledger.batches
    with Slot(store, it) as slot:
        fail_once(monkeypatch, batches, "settle", Systemic("not authorized"))
        fail_once(monkeypatch, batches, "release", Systemic("not authorized"))
        slot.thread.start()
        happens(lambda: not slot.thread.is_alive() or fresh(store, run).status is RunStatus.PAUSING)
        assert slot.thread.is_alive()
