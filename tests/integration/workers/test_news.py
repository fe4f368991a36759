"""Nobody waits for the next look where there is news: a process that has nothing in hand wakes its coordinator, which wakes it."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.conftest import SHORT
from tests.integration.in_process_system import DEFAULTS, until
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating.start import start_run
from whimbrel.engine.running.heartbeat import keep_heartbeat
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.mongo.store import MongoStore
from whimbrel.settings import Settings, read_settings
from whimbrel.workers.definition_catalog import describe
from whimbrel.workers.parent_process import ParentProcess
from whimbrel.workers.supervisor import Supervisor

RARELY = 3600.0  # seconds
FILE = """
from whimbrel import Migration
it = Migration(name="it", collection="things", update={"$set": {"n": 1}})
"""


def test_a_coordinator_that_looks_once_an_hour_ends_a_run_as_soon_as_its_workers_have(
    mongo_uri: str,
    store: MongoStore,
    database: Database[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database["things"].insert_many({"_id": at} for at in range(30))
    (tmp_path / "file.py").write_text(FILE)
    monkeypatch.setattr(Settings, "times", property(lambda _self: replace(Times(), tick=RARELY)))
    environment = {
        "MONGODB_URI": mongo_uri,
        "MONGODB_DB_NAME": store.database,
        "WHIMBREL_MIGRATIONS": str(tmp_path / "file.py"),
    }
    it = describe(str(tmp_path / "file.py"))["it"]
    run = start_run(store, it, who="test", defaults=DEFAULTS, batch_size=10)
    ledger = store.ledger
    supervisor = Supervisor(
        ledger.batches, environment, size=1, slots=2, run=run.id, longest_call=30, leases=ledger.leases
    )
    monkeypatch.setenv("MONGODB_URI", mongo_uri)
    with ParentProcess(store, read_settings(), supervisor):
        assert until(store, run).run.status is RunStatus.COMPLETED
        assert supervisor.drain(30)
    assert database["things"].count_documents({"n": 1}) == 30


def test_a_worker_that_looks_once_an_hour_looks_at_once_when_it_is_told(
    store: MongoStore, database: Database[dict[str, Any]]
) -> None:
    worker_state = WorkerState({}, "told")
    looked = threading.Semaphore(0)
    refresh = worker_state.refresh

    def noted(store: Any) -> None:
        refresh(store)
        looked.release()

    worker_state.refresh = noted  # type: ignore[method-assign]
    rarely = replace(SHORT, control=RARELY, lease=8 * RARELY)
    facts = {"times": rarely, "die": lambda: None, "beat": lambda: None, "about": {"host": "h", "pid": 1}}
    watching = threading.Thread(target=keep_heartbeat, args=(store, worker_state), kwargs=facts, daemon=True)
    watching.start()
    assert looked.acquire(timeout=60), "the first look"
    assert not worker_state.news.is_set()
    worker_state.wake_up.set()
    assert looked.acquire(timeout=60)
    assert worker_state.news.wait(60), "slots look for work"
    worker_state.end()
    watching.join(60)
    assert not watching.is_alive()
