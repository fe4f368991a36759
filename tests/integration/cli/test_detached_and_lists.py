"""Runs that are started for others to carry out, lists of some runs, and what is said of a migration that is done."""

# ruff: noqa: F811  fixtures are imported by their names

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.coordinating.test_waiting_runs import coordinator_of
from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import migrate, start, system, until
from whimbrel import Migration
from whimbrel.cli.output.run_tables import run_table
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import run_object, view
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
FILE = """
from whimbrel import Migration
done = Migration(name="done", collection="things", update={"$set": {"m": 1}})
other = Migration(name="other", collection="things", update={"$set": {"o": 1}})
"""
DONE = Migration(name="done", collection="things", update={"$set": {"m": 1}})


@pytest.fixture
def things(database: Docs, commands: Commands, tmp_path: Path) -> Docs:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_many({"_id": n} for n in range(20))
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="file.py")
    return database


def test_a_run_is_left_to_others_and_it_is_said_that_there_are_none(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    said = commands("run", "done", "--detach", "-y")
    run = said.out.strip()
    assert store.ledger.runs.list()[0].id == run
    assert f"No worker serves it: whimbrel resume {run}" in said.err
    assert things["things"].count_documents({"m": 1}) == 0
    assert f"No worker serves it: whimbrel resume {run}" in commands("resume", run, "--detach").err
    with system(store, [DONE]):
        assert until(store, replace(store.ledger.runs.list()[0])).run.status is RunStatus.COMPLETED
    told = json.loads(commands("run", "other", "--detach", "-y", "--json").out)
    assert (told["status"], told["migration"]) == ("queued", "other")
    assert "--detach starts no workers" in commands("run", "other", "--detach", "--workers", "2", code=64).err


def test_no_workers_of_its_own_and_those_of_others_do_the_work(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    with system(store, [DONE]):
        told = json.loads(commands("run", "done", "--workers", "0", "-y", "--json").out)
    assert (told["status"], told["changed"]) == ("completed", 20)
    assert "--workers" in commands("demo", "--workers", "0", code=64).err


def listed(commands: Commands, *options: str) -> list[str]:
    return [each["migrationId"] for each in json.loads(commands("status", "--json", *options).out)]


def test_some_runs_are_listed(store: MongoStore, things: Docs, commands: Commands) -> None:
    first = migrate(store, DONE).run
    second = start(store, Migration(name="other", collection="things", update={"$set": {"o": 1}}))
    third = start(store, DONE)
    things["whimbrel_runs"].update_one(
        {"_id": first.id}, [{"$set": {"createdAt": {"$subtract": ["$createdAt", 3 * 86_400_000]}}}]
    )
    assert listed(commands, "--state", "queued") == [third.id, second.id]
    assert listed(commands, "--state", "queued", "--state", "completed") == [third.id, second.id, first.id]
    assert listed(commands, "--migration", "done") == [third.id, first.id]
    assert listed(commands, "--since", "2d") == [third.id, second.id]
    assert listed(commands, "--since", "2000-01-01", "--migration", "done", "--state", "completed") == [
        first.id
    ]
    assert listed(commands, "--since", "1w", "--limit", "1") == [third.id]
    assert "There are no such runs" in commands("status", "--state", "failed").out
    assert "give how long ago" in commands("status", "--since", "yesterday", code=64).err
    assert "RUN is one run" in commands("status", first.id, "--since", "1d", code=64).err
    assert "--state" in commands("status", "--state", "nix", code=64).err
    page = store.ledger.runs.list(since=second.created_at, after=third.id)
    assert [each.id for each in page] == [second.id]


def test_a_migration_that_is_done_says_by_which_run(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    run = migrate(store, DONE).run
    for words in (("run", "done", "--detach"), ("plan", "done")):
        said = commands(*words)
        assert f"already done by {run.id}, 0 left" in said.err
        assert "index" not in said.err
        assert "index. " not in said.out
    assert commands("run", "done", "--detach", "--strict").err.count(f"already done by {run.id}") == 1
    narrow = ["--filter", '{"_id": {"$gt": 100}}']
    assert "Nothing matches" in commands("plan", "other", *narrow).err


def by_filter() -> Migration:
    return Migration(
        name="filtered", collection="things", filter={"m": {"$exists": False}}, mark="filter", update={"$set": {"m": 1}}
    )  # fmt: skip


def changed(store: MongoStore, run: Run) -> str:
    it = view(store.ledger, store.ledger.runs.get(run.id) or run)
    return dict(run_table(it).rows)["changed"].plain


@pytest.mark.parametrize("crashed", [True, False], ids=["a crash", "an interruption"])
def test_inferred_after_a_crash_is_said_only_after_one(
    store: MongoStore, things: Docs, *, crashed: bool
) -> None:
    it = by_filter()
    run = start(store, it)
    coordinator_of(store).tick()
    batch = store.ledger.batches.claim([run.id], worker="gone", lsid=b"1" * 16)
    assert batch is not None
    if crashed:
        assert store.ledger.batches.take_over(worker="gone")
    else:
        store.ledger.batches.release(batch)
    with system(store, [it]):
        until(store, run)
    cell = changed(store, run)
    assert cell == f"20 (inferred from documents after {'a crash' if crashed else 'an interruption'})"
    assert (store.ledger.runs.get(run.id) or run).taken_over is crashed


def test_what_was_counted_is_not_called_inferred(store: MongoStore, things: Docs) -> None:
    run = migrate(store, DONE).run
    assert changed(store, run) == "20"
    assert control.find_run(store.ledger, run.id).taken_over is False


def test_no_list_leaves_something_out_without_a_word(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    def fails(thing: dict[str, Any]) -> Any:
        if thing["_id"] >= 13:
            return {"$set": {"m": 1}}
        raise type(f"E{thing['_id']}", (Exception,), {})("bad")

    it = Migration(name="failing", collection="things", transform=fails, max_attempts=1, batch_size=2)
    run = migrate(store, it).run
    one = commands("status", run.id).out
    assert "Batches, 8 of 1" in one
    assert f"In 3 more groups: 3 dead, 0 open, 0 resolved. All of them: whimbrel failures {run.id}" in one
    assert "more groups" not in commands("failures", run.id).err
    assert "In 1 more group: 1 dead, 0 open" in commands("failures", run.id, "--limit", "12").err
    first = commands("failures", run.id, "--documents", "--limit", "5").err
    assert "8 more failures. Show them: --cursor " in first
    later = commands("failures", run.id, "--documents", "--limit", "8", "--cursor", first.split()[-1])
    assert len(later.out.split("E")) > 8
    assert "There may be more" in later.err
    assert "more" not in commands("failures", run.id, "--documents", "--limit", "13").err.partition("note")[2]
    assert "2 more" in commands("failures", run.id, "--documents", "--state", "dead", "--limit", "11").err
    migrate(store, DONE)
    assert "There are older runs than these 1:" in commands("status", "--limit", "1").err
    assert "older runs" not in commands("status", "--limit", "2").err
    assert "There are older runs than these 1:" in commands("status", "--json", "--limit", "1").err


def test_the_speed_of_a_run_that_ended_is_of_all_that_it_evaluated(store: MongoStore, things: Docs) -> None:
    def fails(thing: dict[str, Any]) -> Any:
        raise ValueError(thing["_id"])

    run = migrate(store, Migration(name="f", collection="things", transform=fails, max_attempts=1)).run
    it = replace(view(store.ledger, run), seconds=10.0)
    assert run_object(it)["throughput"] == 2.0


def test_a_limit_that_was_not_reached_leaves_nothing(things: Docs, commands: Commands) -> None:
    options = ("--workers", "1", "-y", "--json")
    some = json.loads(commands("run", "done", "--limit", "8", *options).out)
    assert some["message"] == "The first 8 eligible documents were evaluated; others may be left."
    rest = json.loads(commands("run", "done", "--limit", "1000", *options).out)
    assert (
        rest["message"]
        == "12 documents were evaluated, fewer than the limit of 1,000: no other was eligible."
    )
