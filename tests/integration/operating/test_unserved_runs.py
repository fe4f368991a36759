"""A run that nobody serves says so, with the reason and the host."""

# ruff: noqa: F811  fixtures are imported by their names

import json
import socket
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database
from structlog.testing import capture_logs

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import start
from tests.waiting import until
from whimbrel import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.workers import NOT_LOADED
from whimbrel.engine.operating import unserved_runs
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.unserved_runs import unserved
from whimbrel.mongo.store import MongoStore
from whimbrel.settings import Settings
from whimbrel.workers.parent_process import ParentProcess

Docs = Database[dict[str, Any]]


def touched(thing: dict[str, Any]) -> dict[str, Any]:
    return {"$set": {"n": thing["_id"]}}


TOUCHED = Migration(name="touched", collection="things", transform=touched)


@pytest.fixture
def things(database: Docs, commands: Commands) -> Docs:
    database["things"].insert_many({"_id": n} for n in range(3))
    commands.set(MONGODB_DB_NAME=database.name)
    return database


def worker(
    store: MongoStore, host: str, *, hash_: str | None = None, here: str = "", only: str | None = None,
    run: Run | None = None, slots: int = 2, loading: bool = False,
) -> None:  # fmt: skip
    """A worker process elsewhere, as the registry knows it."""
    code = [{"migration": "touched", "hash": hash_}] if hash_ else []
    refuses = [{"run": run.id, "pinned": run.code_hash, "here": here}] if run is not None and here else []
    store.ledger.leases.beat(
        f"{host}:1:x", host=host, pid=1, version="1", slots=slots, only=only, code=code, done=0, inHand=[],
        refuses=refuses, loading=loading,
    )  # fmt: skip


def test_each_reason_is_told_with_its_host(store: MongoStore, things: Docs) -> None:
    run = start(store, TOUCHED)
    assert "No worker serves it: whimbrel resume" in unserved(store.ledger, run)
    worker(store, "red", here=NOT_LOADED, run=run)
    assert "the workers on red have not loaded touched" in unserved(store.ledger, run)
    worker(store, "green", hash_="0123456789abcdef", here="people.py differs", run=run)
    assert "on green touched is not what the run began with: people.py differs" in unserved(store.ledger, run)
    worker(store, "blue", here="Migration 'touched' has an unknown option 'x'.", run=run)
    said = unserved(store.ledger, run)
    assert (
        "on blue touched is not what the run began with: Migration 'touched' has an unknown option 'x'"
        in said
    )
    assert all(host in said for host in ("red", "green", "blue"))
    worker(store, "pink", only="20260101-aaaaaa", hash_=run.code_hash)
    assert "1 more" in unserved(store.ledger, run)
    worker(store, "gold", slots=0, loading=True)
    assert "still load the migrations" in unserved(store.ledger, run)
    worker(store, "gold", hash_=run.code_hash)
    assert unserved(store.ledger, run) == ""


def test_workers_that_still_load_are_no_alarm(
    store: MongoStore, things: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unserved_runs, "PATIENCE", 0.0)
    run = start(store, TOUCHED)
    with capture_logs() as logged:
        worker(store, "red", loading=True)
        assert "still load" in unserved_runs.UnservedRuns(store.ledger).reason(run)
        worker(store, "red", here=NOT_LOADED, run=run)
        assert "have not loaded" in unserved_runs.UnservedRuns(store.ledger).reason(run)
    assert [(each["log_level"], each["event"]) for each in logged] == [
        ("info", "workers still load the migrations"),
        ("warning", "nobody serves a run"),
    ]


def test_any_worker_serves_what_needs_no_code_of_a_user(store: MongoStore, things: Docs) -> None:
    run = replace(start(store, TOUCHED), kind="cleanup")
    worker(store, "red", only="20260101-aaaaaa")
    assert "a worker on red works on run 20260101-aaaaaa alone" in unserved(store.ledger, run)
    worker(store, "green")
    assert unserved(store.ledger, run) == ""


def test_a_look_says_it_where_there_is_no_coordinator_either(store: MongoStore, things: Docs) -> None:
    run = start(store, TOUCHED)
    assert view(store.ledger, run, now=run.updated_at).run.message == ""
    later = view(store.ledger, run, now=run.updated_at + timedelta(seconds=5))
    assert "No worker serves it: whimbrel resume" in later.run.message


def test_the_coordinator_says_it_in_the_run_and_takes_it_back(
    store: MongoStore, things: Docs, mongo_uri: str, commands: Commands
) -> None:
    run = start(store, TOUCHED)
    settings = Settings(mongodb_uri=mongo_uri, mongodb_db_name=things.name, rabbitmq_url=None)

    def said() -> str:
        worker(store, "green", hash_="0123456789abcdef", here="people.py differs", run=run)
        return str((things["whimbrel_runs"].find_one({"_id": run.id}) or {})["message"])

    with ParentProcess(store, settings, None):
        until(lambda: "on green touched is not what the run began with: people.py differs" in said())
        (shown,) = json.loads(commands("status", run.id, "--json").out)
        assert "on green" in shown["message"]
        assert "on green" in " ".join(commands("status", run.id).out.split())

        def quiet() -> bool:
            worker(store, "green", hash_=run.code_hash)
            return not (things["whimbrel_runs"].find_one({"_id": run.id}) or {})["message"]

        until(quiet)


CHANGING = """
from whimbrel import migration

@migration(collection="things")
def changing(thing):
    return {"$set": {"n": 1}}

with open(__file__, "a") as file:  # as a deployment does, between two processes
    file.write("#\\n")
"""


def test_a_run_whose_own_workers_refuse_it_ends_with_an_error(
    things: Docs, commands: Commands, tmp_path: Path
) -> None:
    (tmp_path / "changing.py").write_text(CHANGING)
    said = commands("run", "changing", "--migrations", "changing.py", "--workers", "1", "-y", code=65).err
    assert "The workers that this command has started do not serve run" in said
    assert f"on {socket.gethostname()} changing is not what the run began with: changing.py differs" in said
    row = things["whimbrel_runs"].find_one() or {}
    assert row["status"] == "paused"
    assert things["things"].count_documents({"n": {"$exists": True}}) == 0
