"""Stages on the command line: `run --stages`, `approve`, and what `status` shows of them."""

# ruff: noqa: F811  fixtures are imported by their names

import json
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import system, until
from tests.waiting import until as wait_until
from whimbrel import Migration
from whimbrel.engine.operating.control import find_run
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
FILE = """
from whimbrel import Migration, migration

counted = Migration(name="counted", collection="things", update={"$inc": {"n": 1}})


@migration(collection="things", max_attempts=1)
def bad(document):
    raise ValueError("bad")
"""
COUNTED = Migration(name="counted", collection="things", update={"$inc": {"n": 1}})


@pytest.fixture
def things(database: Docs, commands: Commands, tmp_path: Path) -> Docs:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_many({"_id": n} for n in range(200))
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="file.py", WHIMBREL_MAX_FAILURE_RATE="5%")
    return database


def test_a_run_goes_in_stages_and_says_so(store: MongoStore, things: Docs, commands: Commands) -> None:
    told = json.loads(
        commands("run", "counted", "--stages", "5,10%,100%", "--yes", "--json", "--workers", "1").out
    )
    assert (told["status"], told["changed"]) == ("completed", 200)
    assert [(each["asked"], each["state"], each["documents"], each["evaluated"]) for each in told["stages"]["stages"]] == [
        ("5", "passed", 5, 5), ("10%", "passed", 20, 20), ("100%", "passed", 200, 0),
    ]  # fmt: skip
    assert things["things"].count_documents({"n": 1}) == 200
    shown = commands("status", told["migrationId"]).out
    assert "10% (about 20): passed, 20 evaluated, 0 failed" in shown


def test_a_gate_that_says_no_ends_the_command_and_a_person_approves(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    refused = commands("run", "bad", "--stages", "5,100%", "--yes", "--force", "--workers", "1", code=71)
    assert "Stage 1 of 2 (5) did not pass its gate: 5 of 5 documents failed" in refused.err
    run = store.ledger.runs.list()[0]
    assert run.status == "paused"
    assert (
        "5 (about 5): refused, 5 evaluated, 5 failed; 5 of 5 documents failed"
        in commands("status", run.id).out
    )
    assert "whimbrel approve" in commands("ensure", "bad", "--finish", "--workers", "1", code=68).err
    approved = commands("approve")
    assert f"run {run.id} goes on" in approved.err
    assert f"No worker serves it: whimbrel resume {run.id}" in approved.err
    commands("resume", run.id, "--workers", "1", code=2)
    assert "approved by" in commands("status", run.id).out
    commands("approve", run.id, code=68)
    commands("approve", "nix", code=66)


def test_the_command_waits_for_an_approval_from_elsewhere(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    run = commands("run", "counted", "--stages", "5,100%", "--approve", "--yes", "--detach").out.strip()
    with system(store, [COUNTED]):
        wait_until(lambda: "must approve it" in find_run(store.ledger, run).message)
        assert things["things"].count_documents({"n": 1}) == 5
        assert "approval" in commands("status", run).out
        told = json.loads(commands("approve", run, "--json").out)
        assert told["stages"]["stages"][0]["approvedBy"]
        assert until(store, find_run(store.ledger, run)).counts.changed == 200


def test_what_cannot_be_is_refused_at_once(store: MongoStore, things: Docs, commands: Commands) -> None:
    for options, sentence in {
        ("--stages", "10%,1%,100%"): "The stage 1% is not more than the one before it",
        ("--stages", "0,100%"): "'0' cannot be a stage",
        ("--stages", "5,50%"): "it must be 100%",
        ("--stages", "5,100%", "--limit", "7"): "leave out the limit",
        ("--stages", "5,100%", "--hold", "soon"): "--hold soon: give how long",
        ("--stages", "5,100%", "--hold", "9d"): "up to 7 days",
        ("--hold", "5m"): "Only stages can be held or approved",
        ("--approve",): "Only stages can be held or approved",
    }.items():
        assert sentence in commands("run", "counted", "--yes", *options, code=64).err
    assert not store.ledger.runs.list()
