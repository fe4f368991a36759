"""A dead worker process is replaced at once, whatever the ledger does; what it held is released when the ledger answers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import start
from whimbrel import Migration
from whimbrel.brokers.ledger import LedgerBroker
from whimbrel.engine.coordinating.coordinator import Coordinator
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.errors import SettingsInvalid, Transient
from whimbrel.mongo.store import MongoStore
from whimbrel.workers.child_process import ChildProcess
from whimbrel.workers.supervisor import Supervisor

Data = Database[dict[str, Any]]


@contextmanager
def child(name: str, exit_code: int | None = None) -> Iterator[ChildProcess]:
    """A process that waits for its input, or has ended."""
    code = "input()" if exit_code is None else f"raise SystemExit({exit_code})"
    _, given = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    if exit_code is not None:
        process.wait(60)
    try:
        yield ChildProcess(name, process, given, (), loaded=True)
    finally:
        process.kill()
        process.communicate()


def hold_batch(store: MongoStore, database: Data, worker: str) -> None:
    """Plans a run of one batch, which the worker claims."""
    database["things"].insert_one({"_id": 1})
    run = start(store, Migration(name="m", collection="things", update={"$set": {"n": 1}}))
    announcer = Announcer(store.ledger, LedgerBroker(), pause=SHORT.broker)
    coordinator = Coordinator(
        store, announcer, name="test", role_seconds=SHORT.lease, step=lambda _step: None
    )
    while not store.ledger.batches.claim([run.id], worker=worker, lsid=os.urandom(16)):
        coordinator.tick()


def test_while_the_ledger_does_not_answer(
    store: MongoStore, database: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold_batch(store, database, "first")
    supervisor = Supervisor(store.ledger.batches, {}, size=1, slots=1, run=None, longest_call=30)
    take_over, asked, answers = store.ledger.batches.take_over, list[str | None](), False

    def unanswered(*, worker: str | None = None) -> Any:
        asked.append(worker)
        if not answers:
            raise Transient("no answer")
        return take_over(worker=worker)

    monkeypatch.setattr(store.ledger.batches, "take_over", unanswered)
    with child("first", -9) as first, child("second") as second:
        monkeypatch.setattr(supervisor, "_start", lambda: second)
        supervisor.adopt(first)
        with pytest.raises(Transient):
            supervisor.check_children()
        while not supervisor.alive:  # the second is started after a pause
            with pytest.raises(Transient):
                supervisor.check_children()
        assert database["whimbrel_batches"].distinct("status") == ["running"]
        answers, attempts = True, len(asked)
        supervisor.check_children()
        supervisor.check_children()
        assert asked == ["first"] * (attempts + 1)
        assert database["whimbrel_batches"].distinct("status") == ["queued"]
        supervisor.kill()
        assert asked[-1] == "second"


def test_why_no_other_would_do_better_is_said_without_the_ledger(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unanswered(**_: Any) -> Any:
        raise Transient("no answer")

    monkeypatch.setattr(store.ledger.batches, "take_over", unanswered)
    supervisor = Supervisor(store.ledger.batches, {}, size=1, slots=1, run=None, longest_call=30)
    with child("first", SettingsInvalid.exit_code) as first:
        supervisor.adopt(first)
        with pytest.raises(SettingsInvalid, match="cannot start"):
            supervisor.check_children()


def test_who_leaves_asks_a_ledger_that_does_not_answer_only_once(
    store: MongoStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question may take as long as the driver waits."""
    asked = list[str | None]()

    def unanswered(*, worker: str | None = None) -> Any:
        asked.append(worker)
        raise Transient("no answer")

    monkeypatch.setattr(store.ledger.batches, "take_over", unanswered)
    supervisor = Supervisor(store.ledger.batches, {}, size=2, slots=1, run=None, longest_call=30)
    with child("first", -9) as first, child("second") as second:
        supervisor.adopt(first)
        supervisor.adopt(second)
        assert not supervisor.drain(0.2)  # the second had to be killed
    assert supervisor.alive == 0
    assert asked == ["first"]
