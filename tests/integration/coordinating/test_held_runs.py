"""Runs that wait for their windows or a freeze, or go slower: nothing is lost, counted as an attempt, taken over, or foretold meanwhile."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.brokers.test_rabbitmq import PROCESSING, consuming, publishing
from tests.integration.in_process_system import DEFAULTS, migrate, start, system, until
from tests.servers.rabbit import RabbitNode
from tests.servers.serve import eventually
from whimbrel import Migration
from whimbrel.cli.output.run_log import RunLog
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.health.signals import Level
from whimbrel.domain.health.verdict import Reason, Verdict
from whimbrel.domain.runs.freezes import Freeze
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.domain.runs.terms import Terms
from whimbrel.engine.coordinating.held_runs import HeldRuns
from whimbrel.engine.executing.gate import Gate
from whimbrel.engine.operating import control
from whimbrel.engine.operating.freezing import add_freezes, lift_freezes
from whimbrel.engine.operating.run_view import row_object, view
from whimbrel.engine.operating.start_rollback import start_rollback
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.mongo.store import MongoStore
from whimbrel.ports import FreezeLook

Docs = Database[dict[str, Any]]
COUNT = 3000
LAG = Reason("member-lag", Level.STOP, 0.0, "replication lag 9 s > 5 s on host2")
THINGS = Migration(name="things", collection="things", update={"$inc": {"n": 1}}, undo=True)


def freeze(store: MongoStore, seconds: float | None = None, note: str = "") -> None:
    """From now on, for so long, or until it is lifted."""

    def made(look: FreezeLook) -> Sequence[Freeze]:
        ends = None if seconds is None else look.now + timedelta(seconds=seconds)
        return [Freeze(id=f"f{len(look.freezes)}", begins=look.now, ends=ends, note=note)]

    add_freezes(store.ledger, made, who="test")


def closed(hours: float = 2) -> str:
    """A window that opens in so many hours, of one hour."""
    begins = datetime.now(UTC) + timedelta(hours=hours)
    return f"{begins:%H:%M}-{begins + timedelta(hours=1):%H:%M} UTC"


@pytest.fixture
def things(database: Docs) -> Docs:
    database["things"].insert_many({"at": at, "n": 0} for at in range(COUNT))
    return database


@contextmanager
def gated(store: MongoStore, **options: Any) -> Iterator[WorkerState]:
    """The system at work, with slots that obey freezes and windows."""
    with system(store, [THINGS], **options) as worker_state:
        worker_state.gate = Gate(None, store.ledger.freezes.look)
        yield worker_state


def now(store: MongoStore, run: Run) -> Run:
    found = store.ledger.runs.get(run.id)
    assert found is not None
    return found


def waits(store: MongoStore, run: Run) -> Run:
    """The run, once it waits and nobody works on it."""
    in_hand = {"run": run.id, "status": "running"}
    batches = store.client[store.database]["whimbrel_batches"]
    eventually(lambda: now(store, run).allowance.state == "waiting" and not batches.count_documents(in_hand))
    assert now(store, run).status is RunStatus.RUNNING
    return now(store, run)


def all_done_once(store: MongoStore, run: Run) -> None:
    things = store.client[store.database]["things"]
    ended = until(store, run)
    assert (ended.run.status, ended.counts.changed, ended.failures["failed"]) == (
        RunStatus.COMPLETED,
        COUNT,
        0,
    )
    assert things.count_documents({"n": 1}) == COUNT
    assert not any(
        row["takeovers"] for row in store.client[store.database]["whimbrel_batches"].find({"run": run.id})
    )


def test_a_freeze_holds_runs_and_is_lifted(store: MongoStore, things: Docs) -> None:
    freeze(store, note="the primary is being moved")
    with gated(store) as worker_state:
        began = time.monotonic()
        run = start(store, THINGS, batch_size=500)
        found = waits(store, run)
        waiting_since = time.monotonic()
        assert (
            found.message
            == "Waits: frozen until somebody lifts it with `whimbrel unfreeze`: the primary is being moved."
        )
        eventually(lambda: worker_state.asleep == {run.id})
        assert worker_state.serving == (), "no slot asks for its batches"
        seen = view(store.ledger, found)
        assert (seen.eta, seen.throughput, found.working_since) == (None, 0.0, None)
        told = row_object(seen)
        assert (told["state"], told["share"]) == ("waiting", 0.0)
        (reason,) = told["reasons"]
        assert (reason["signal"], reason["level"], reason["until"]) == ("freeze", "stop", None)
        assert reason["since"]
        assert reason["said"] in found.message
        waited = time.monotonic() - waiting_since
        lift_freezes(store.ledger, None, who="test")
        all_done_once(store, run)
        assert view(store.ledger, now(store, run)).seconds <= time.monotonic() - began - waited
    ended = row_object(view(store.ledger, now(store, run)))
    assert (ended["state"], ended["share"], ended["reasons"]) == (None, None, [])
    rows = list(things["whimbrel_batches"].find({"run": run.id}))
    assert max(row["claims"] for row in rows) == 1, "nothing was held, and nothing was an attempt"


def test_what_the_databases_health_has_stopped_for_half_a_minute_is_given_back_and_is_no_attempt(
    store: MongoStore, things: Docs
) -> None:
    """A worker that is killed meanwhile takes nothing with it: its batches would run alone after the second time."""
    batches = things["whimbrel_batches"]

    def stopped(seconds: float) -> None:
        """By a verdict that was renewed just now."""
        since = store.ledger.freezes.look().now.timestamp() - seconds
        store.ledger.health.keep(
            Verdict(share=0.0, level=Level.STOP, waits_since=since, reasons=(LAG,)), None
        )

    stopped(0)
    with gated(store) as worker_state:
        worker_state.gate = Gate(store.ledger.health.verdict, store.ledger.freezes.look)
        run = start(store, THINGS, batch_size=500)
        in_hand = {"run": run.id, "status": "running"}
        eventually(lambda: batches.count_documents(in_hand) == 2)

        def given_back() -> bool:
            stopped(31)
            return not batches.count_documents(in_hand) and worker_state.asleep == {run.id}

        eventually(given_back)
        rows = list(batches.find({"run": run.id}))
        assert {(row["status"], row["takeovers"], row["solo"]) for row in rows} == {("queued", 0, False)}
        store.ledger.health.keep(Verdict(), None)
        all_done_once(store, run)
    assert not any(row["solo"] for row in batches.find({"run": run.id}))


def test_what_is_at_work_gives_its_batches_back_and_goes_on_where_it_stopped(
    store: MongoStore, things: Docs
) -> None:
    with gated(store):
        run = start(store, THINGS, batch_size=1000, rate=1500)
        eventually(lambda: things["things"].count_documents({"n": 1}))
        freeze(store)
        waits(store, run)
        done = things["things"].count_documents({"n": 1})
        assert 0 < done < COUNT
        control.adjust(store.ledger, run.id, who="test", rate=None)
        assert things["things"].count_documents({"n": 1}) == done
        lift_freezes(store.ledger, None, who="test")
        all_done_once(store, run)


def test_a_short_wait_keeps_batches_in_hand_for_longer_than_a_lease(store: MongoStore, things: Docs) -> None:
    freeze(store, 25)
    in_hand = {"status": "running"}
    batches = things["whimbrel_batches"]
    with gated(store):
        run = start(store, THINGS, batch_size=500)
        eventually(lambda: batches.count_documents(in_hand) == 2)
        leases = max(row["leaseUntil"] for row in batches.find(in_hand))
        eventually(
            lambda: min(row["leaseUntil"] for row in batches.find(in_hand)) > leases + timedelta(seconds=1.6)
        )
        assert now(store, run).message.startswith("Waits: frozen until ")
        assert things["things"].count_documents({"n": 1}) == 0
        lift_freezes(store.ledger, None, who="test")
        all_done_once(store, run)
    assert max(row["claims"] for row in batches.find({"run": run.id})) == 1


def test_windows_are_changed_while_a_run_waits_for_them(store: MongoStore, things: Docs) -> None:
    with gated(store):
        run = start(store, THINGS, batch_size=500, terms=Terms([closed()]))
        assert ": outside its windows." in waits(store, run).message
        control.adjust(store.ledger, run.id, who="test", windows=[closed(4)])
        opens = {hold.until for hold in now(store, run).allowance.holds}
        eventually(lambda: {hold.until for hold in now(store, run).allowance.holds} != opens)
        assert things["things"].count_documents({"n": 1}) == 0
        control.adjust(store.ledger, run.id, who="test", windows=())
        all_done_once(store, run)
    audited = [
        row["why"] for row in things["whimbrel_audit"].find({"what": "settings changed"}).sort("at", 1)
    ]
    assert audited == [f"windows {closed(4)}", "windows none"]


@pytest.mark.parametrize("end", ["pause", "cancel"])
def test_a_run_that_waits_is_paused_and_cancelled(store: MongoStore, things: Docs, end: str) -> None:
    with gated(store):
        run = start(store, THINGS, terms=Terms([closed()]))
        waits(store, run)
        if end == "cancel":
            control.cancel(store.ledger, run.id, who="test")
            assert until(store, run, RunStatus.CANCELLED).run.message == ""
            return
        control.pause(store.ledger, run.id, who="test")
        assert until(store, run, RunStatus.PAUSED).run.message == "", "it does not wait for its windows now"
        control.adjust(store.ledger, run.id, who="test", windows=())
        control.resume(store.ledger, run.id, who="test")
        all_done_once(store, run)


def test_outside_its_windows_a_run_may_be_slower_instead(store: MongoStore, things: Docs) -> None:
    with gated(store):
        run = start(store, THINGS, batch_size=500, rate=500, terms=Terms([f"{closed()} share=0.5"], nice=1))
        found = eventually(lambda: (it := now(store, run)).allowance.state == "slowed" and it)
        assert found.message.startswith("Goes at 50% of its speed until ")
        assert found.working_since is not None
        told = row_object(view(store.ledger, found))
        assert (told["state"], told["share"]) == ("slowed", 0.5)
        assert [reason["signal"] for reason in told["reasons"]] == ["window", "nice"]
        control.adjust(store.ledger, run.id, who="test", rate=None)
        all_done_once(store, run)


def test_verifications_and_rollbacks_wait_too(store: MongoStore, things: Docs) -> None:
    old = migrate(store, THINGS).run
    freeze(store)
    with gated(store):
        checking = start_verification(store, old.id, THINGS.definition, who="test", defaults=DEFAULTS)
        waits(store, checking)
        lift_freezes(store.ledger, None, who="test")
        assert until(store, checking).run.status is RunStatus.COMPLETED
        undoing = start_rollback(
            store, old.id, who="test", defaults=DEFAULTS, terms=Terms([closed()], nice=2)
        )
        assert waits(store, undoing).nice == 2
        assert things["things"].count_documents({"n": 1}) == COUNT
        control.adjust(store.ledger, undoing.id, who="test", windows=(), nice=0)
        assert until(store, undoing).run.status is RunStatus.COMPLETED
    assert things["things"].count_documents({"n": 0}) == COUNT


def test_pointers_do_not_go_round_while_a_run_waits(
    store: MongoStore, things: Docs, node: RabbitNode
) -> None:
    with publishing(node) as broker, consuming(node) as feed, gated(store, broker=broker, feed=feed):
        run = start(store, THINGS, batch_size=200, rate=500)
        eventually(lambda: things["things"].count_documents({"n": 1}))
        freeze(store)
        waits(store, run)
        eventually(lambda: node.queues()[PROCESSING].ready == 0)
        lift_freezes(store.ledger, None, who="test")
        control.adjust(store.ledger, run.id, who="test", rate=None)
        all_done_once(store, run)


# What is said, and how often it is written


def test_numbers_alone_are_neither_written_often_nor_logged(
    store: MongoStore, things: Docs, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(store, THINGS)
    store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    run_log = RunLog(Screen(), store.ledger)
    run_log.tell(run_log.look())
    shares = iter((0.5, 0.25, 0.12))

    def say(share: float, sentence: str) -> None:
        reason = Reason("member-lag", Level.SLOW, time.time(), sentence)
        store.ledger.health.keep(
            Verdict(share=share, level=Level.SLOW, since=time.time(), reasons=(reason,)), None
        )
        held = HeldRuns(store.ledger, watched=True)
        found = now(store, run)
        held.tell(found, held.of(found), "")
        run_log.tell(run_log.look())

    for share in shares:
        say(share, f"replication lag {share}")
    assert capsys.readouterr().err.count("goes at ") == 1
    assert now(store, run).message.startswith("Goes at 12% of its speed since ")
    held = HeldRuns(store.ledger, watched=True)
    for sentence in ("replication lag 3", "replication lag 4"):
        store.ledger.health.keep(
            Verdict(share=0.5, reasons=(Reason("member-lag", Level.SLOW, 1.0, sentence),)), None
        )
        held._gate._looked_at = float("-inf")
        found = now(store, run)
        held.tell(found, held.of(found), "")
    assert "replication lag 3" in now(store, run).message, "the newer number follows some seconds later"
    store.ledger.health.keep(Verdict(share=1.0), None)
    held._gate._looked_at = float("-inf")
    found = now(store, run)
    held.tell(found, held.of(found), "")
    run_log.tell(run_log.look())
    assert (now(store, run).message, now(store, run).allowance.state) == ("", "working")
    assert capsys.readouterr().err.count("goes on") == 1


def test_what_else_there_is_to_say_comes_first(store: MongoStore, things: Docs) -> None:
    run = start(store, THINGS, terms=Terms([closed()]))
    store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    held, found = HeldRuns(store.ledger, watched=False), now(store, run)
    held.tell(found, held.of(found), "No worker serves it.")
    told = row_object(view(store.ledger, now(store, run)))
    assert (told["state"], told["message"]) == ("waiting", "No worker serves it.")
    assert [reason["signal"] for reason in told["reasons"]] == ["run", "window"]


def changes(store: MongoStore, look: Callable[[], object]) -> int:
    before = store.ledger.freezes.look().revision
    look()
    return store.ledger.freezes.look().revision - before


def test_freezes_are_changed_by_several_at_once_without_losing_any(store: MongoStore) -> None:
    assert store.ledger.freezes.look().freezes == ()
    interrupted = False

    def made(look: FreezeLook) -> Sequence[Freeze]:
        nonlocal interrupted
        if not interrupted:  # somebody else is faster
            interrupted = True
            freeze(store, note="other")
        return [Freeze(id="mine", begins=look.now, note="mine")]

    assert changes(store, lambda: add_freezes(store.ledger, made, who="test")) == 2
    assert {each.note for each in store.ledger.freezes.look().freezes} == {"mine", "other"}
    assert changes(store, lambda: lift_freezes(store.ledger, None, who="test")) == 1
    assert changes(store, lambda: lift_freezes(store.ledger, None, who="test")) == 0, "nothing was in force"
    database = store.client[store.database]
    audited = sorted(
        row["what"].partition(" from")[0] for row in database["whimbrel_audit"].find({"who": "test"})
    )
    assert audited == ["freeze f0", "freeze f0 lifted", "freeze mine", "freeze mine lifted"]
