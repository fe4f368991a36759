"""Statements that go on in MongoDB after their connection broke or their process died: `cancelled` and `paused` wait for them."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
import pytest
from pymongo.collection import Collection

from tests.faults.migrations import burning
from tests.faults.rig import Rig
from tests.faults.test_zombies import until
from tests.integration import in_process_system as inline
from tests.integration.in_process_system import DEFAULTS
from tests.servers.proxy import Proxy, through
from tests.servers.replicas import Member, ReplicaSet
from whimbrel import Migration
from whimbrel.brokers.ledger import LedgerBroker, LedgerFeed
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating.control import cancel, pause
from whimbrel.engine.operating.run_view import RunView
from whimbrel.engine.operating.start import start_run
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.mongo.store import MongoStore, connected
from whimbrel.testing.threads import threads

# A statement may take long here, and none is given up because of its time.
LONG = Times(lease=25, grace=20, statement=19, tick=0.02, sweep=0.2, idle_poll=0.05, control=0.05)
LONG_TIMES = {"WHIMBREL_LEASE": "25", "WHIMBREL_GRACE": "20", "WHIMBREL_STATEMENT": "19"}
COUNT = 40  # documents
MANY = 600  # more than are changed before somebody has asked to stop, though the machine stands still


CHANGE = [{"$set": {"n": {"$add": ["$n", 1]}, "heat": burning(30)}}]
UPDATE = Migration(name="burning", collection="things", update=CHANGE, undo=True)
FUNCTION = Migration(name="kindling", collection="things", transform=lambda _: CHANGE)
LEAVING = {"cancelled": cancel, "paused": pause}


@pytest.fixture
def wire(rig: Rig) -> Iterator[Proxy]:
    with Proxy(*rig.client.address) as found:  # type: ignore[misc]
        yield found
        found.heal()
        rig.stop()  # while they can reach MongoDB


@contextmanager
def behind(wire: Proxy, rig: Rig, times: Times = LONG) -> Iterator[MongoStore]:
    with connected(through(rig.uri, wire.port), rig.store.database, times) as found:
        yield found


def writing(rig: Rig) -> bool:
    """Whether a statement is changing things."""
    return bool(statements(rig))


def statements(rig: Rig) -> int:
    """How many are changing things: commands of one statement each, or of many."""
    either = [{"ns": rig.things.full_name, "op": "update"}, {"command.update": rig.things.name}]
    ours = {"active": True, "$or": either}
    return len(list(rig.client.admin.aggregate([{"$currentOp": {}}, {"$match": ours}])))


def changed(things: Collection[Any]) -> int:
    return things.count_documents({"n": {"$gt": 0}})


def check_silence(rig: Rig, run_view: RunView) -> None:
    """What was said is so, and stays so when MongoDB has ended whatever it was doing."""
    seen = changed(rig.things)
    until(lambda: not writing(rig))
    assert changed(rig.things) == seen
    assert (
        run_view.counts.changed in (seen, 0)
        if run_view.run.status is RunStatus.PAUSED
        else run_view.counts.changed == seen
    )


@pytest.mark.parametrize(
    ("it", "asked"),
    [(UPDATE, "cancelled"), (UPDATE, "paused"), (FUNCTION, "cancelled")],
    ids=["declarative", "paused", "function"],
)
def test_a_run_is_not_over_while_a_statement_whose_connection_broke_goes_on(
    rig: Rig, wire: Proxy, it: Migration, asked: str
) -> None:
    rig.seed(MANY)
    with behind(wire, rig) as store, at_work(store, it):
        run = started(rig, it)
        until(lambda: changed(rig.things) > 0)
        assert writing(rig)
        wire.churn()
        LEAVING[asked](rig.store.ledger, run.id, who="test")
        found = rig.until(run, RunStatus(asked))
        assert not writing(rig)
        check_silence(rig, found)
    assert 0 < changed(rig.things) < MANY


def test_a_rollback_that_begins_at_once_takes_everything_back(rig: Rig, wire: Proxy) -> None:
    rig.seed(COUNT)
    before = list(rig.things.find(sort=[("_id", 1)]))
    with behind(wire, rig) as store, at_work(store, UPDATE):
        run = started(rig, UPDATE)
        until(lambda: changed(rig.things) > 0)
        wire.churn()
        cancel(rig.store.ledger, run.id, who="test")
        rig.until(run, RunStatus.CANCELLED)
        back = start_rollback(rig.store, run.id, who="test", defaults=DEFAULTS)
        rig.until(back, RunStatus.COMPLETED)
    until(lambda: not writing(rig))
    assert list(rig.things.find(sort=[("_id", 1)])) == before


def test_a_statement_is_made_again_when_the_first_has_ended(rig: Rig, wire: Proxy) -> None:
    """Whoever reads what a batch did, while it still goes on, counts too few."""
    rig.seed(COUNT)
    at_once: list[int] = []

    def watch(over: threading.Event) -> None:
        while not over.wait(0.01):
            at_once.append(statements(rig))

    over = threading.Event()
    watching = threading.Thread(target=watch, args=(over,))
    with behind(wire, rig) as store, at_work(store, UPDATE):
        watching.start()
        run = started(rig, UPDATE)
        until(lambda: changed(rig.things) > 0)
        wire.churn()
        found = rig.finish(run)
        over.set()
    watching.join()
    rig.reckon(found, COUNT)
    assert max(at_once) == 1


@pytest.mark.parametrize("asked", LEAVING)
def test_the_statement_of_a_killed_worker_has_ended_before_a_run_is_over(rig: Rig, asked: str) -> None:
    rig.seed(COUNT)
    rig.environment |= LONG_TIMES
    run = rig.start("burning")
    rig.parent(workers=1, slots=1)
    until(lambda: changed(rig.things) > 0)
    LEAVING[asked](rig.store.ledger, run.id, who="test")
    kill_workers(rig)
    found = rig.until(run, RunStatus(asked))
    assert not writing(rig)
    check_silence(rig, found)
    assert changed(rig.things) < COUNT


@pytest.mark.parametrize("loss", ["killed", "cut off"])
def test_a_document_that_takes_longer_than_lease_and_grace_is_waited_for(
    rig: Rig, wire: Proxy, loss: str
) -> None:
    """No time limit ends the change of one document, nor is it ended when it is told to end."""
    rig.seed(1)
    run = rig.start("burning-long")
    rig.environment["MONGODB_URI"] = through(rig.uri, wire.port)
    rig.parent(workers=1, slots=1)
    until(lambda: writing(rig))
    if loss == "killed":
        kill_workers(rig)
    else:
        wire.cut()
        rig.environment.pop("MONGODB_URI")
        rig.parent(workers=0)  # on another host
    cancel(rig.store.ledger, run.id, who="test")
    found = rig.until(run, RunStatus.CANCELLED)
    assert not writing(rig)
    check_silence(rig, found)


def test_a_worker_that_shall_end_gives_its_batch_back_when_the_statement_has_ended(
    rig: Rig, wire: Proxy
) -> None:
    rig.seed(COUNT)
    rig.environment |= LONG_TIMES | {"MONGODB_URI": through(rig.uri, wire.port)}
    run = rig.start("burning")
    parent = rig.parent(workers=1, slots=1)
    until(lambda: changed(rig.things) > 0)
    wire.churn()
    parent.send_signal(signal.SIGTERM)
    until(lambda: not rig.store.ledger.batches.count(run.id, [BatchStatus.RUNNING]))
    seen = changed(rig.things)
    until(lambda: not writing(rig))
    assert changed(rig.things) == seen


def test_what_a_majority_has_not_yet_is_counted_too() -> None:
    """Nothing is left to do when the statement is made again, and secondaries that lag have nothing of the first."""
    with ReplicaSet(enableTestCommands=1) as replicas, replicas.primary().client() as client:
        things, lagging = client["lagging"]["things"], replicas.secondaries()
        things.insert_many([{"n": 0} for _ in range(COUNT)])
        it = Migration(name="lagging", collection="things", transform=lambda _: {"$inc": {"n": 1}})

        def step(name: str) -> None:
            if name == "S5" and not changed(things):
                fail_point(lagging, "alwaysOn")

        with (
            Proxy(*client.address) as wire,  # type: ignore[misc]
            connected(through(replicas.uri, wire.port), "lagging", LONG) as store,
            at_work(store, it, step),
        ):
            run = start_run(store, it.definition, who="test", defaults=DEFAULTS)
            until(lambda: changed(things) == COUNT)
            wire.churn()
            rows = {"ns": "lagging.whimbrel_batches", "active": True, "op": {"$ne": "getmore"}}
            until(lambda: list(client.admin.aggregate([{"$currentOp": {}}, {"$match": rows}])))
            fail_point(lagging, "off")
            found = inline.until(store, run)
    assert (found.run.status, found.run.counts.changed) == (RunStatus.COMPLETED, COUNT)


def fail_point(members: Sequence[Member], mode: str) -> None:
    """Whether they fetch what the primary writes."""
    for each in members:
        with each.client() as client:
            client.admin.command("configureFailPoint", "stopReplProducer", mode=mode)


def kill_workers(rig: Rig) -> None:
    killed: list[psutil.Process] = rig.children()
    assert killed
    for each in killed:
        each.kill()


def started(rig: Rig, it: Migration) -> Run:
    return start_run(rig.store, it.definition, who="test", defaults=DEFAULTS)


@contextmanager
def at_work(store: MongoStore, it: Migration, step: Callable[[str], None] = inline.nothing) -> Iterator[None]:
    with threads(
        store, [it], times=LONG, broker=LedgerBroker(), feed=LedgerFeed(), step=step, slots=1
    ):  # fmt: skip
        yield
