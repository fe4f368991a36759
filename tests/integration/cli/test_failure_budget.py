"""Failure budgets on the command line, with the exit codes; causes accepted; all failures to a file."""

# ruff: noqa: F811  fixtures are imported by their names

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import DEFAULTS, migrate
from tests.servers import preloaded
from whimbrel import Migration
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.engine.operating.start import start_run
from whimbrel.mongo.store import MongoStore

Data = Database[dict[str, Any]]
ADD = Migration(name="add", collection="things", update={"$inc": {"n": 1}})


@pytest.fixture
def ended(commands: Commands, store: MongoStore, database: Data) -> str:
    """A run with three failures."""
    commands.set(MONGODB_DB_NAME=database.name)
    database["things"].insert_many([{"_id": key, "n": "text" if key < 3 else 0} for key in range(10)])
    return migrate(store, ADD).run.id


def test_a_run_over_its_budget_is_told_and_goes_on_when_its_cause_is_accepted(
    commands: Commands, database: Data
) -> None:
    commands.set(MONGODB_DB_NAME=database.name)
    database["somemodels"].insert_many([{"status": "pending", "data": "none"} for _ in range(30)])
    paused = commands("run", "some-model", "-y", "--max-new-cause", "20", "--workers", "1", code=71)
    assert "paused itself" in paused.err
    assert "a cause that nobody has seen before" in paused.err
    (run,) = json.loads(commands("status", "--json").out)
    group = run["overBudget"][0]["causes"][0]["group"]
    table = commands("status", run["migrationId"]).out
    assert "fewer than 20 of a new cause" in table
    assert "would pause at once again" in commands("resume", run["migrationId"], code=68).err
    said = commands("failures", run["migrationId"], "--accept", group, "--note", "known")
    assert f"whimbrel resume {run['migrationId']}" in said.out
    assert "accepted by" in commands("failures").out
    (shown,) = json.loads(commands("failures", "--json").out)
    assert shown["accepted"]["note"] == "known"
    commands("failures", run["migrationId"], "--withdraw", group)
    commands("resume", run["migrationId"], "--max-new-cause", "off", "--detach")
    (resumed,) = json.loads(commands("status", "--json").out)
    assert (resumed["status"], resumed["overBudget"], resumed["maxNewCause"]) == ("queued", [], None)


def test_causes_are_accepted_and_withdrawn(commands: Commands, ended: str) -> None:
    (group,) = json.loads(commands("failures", ended, "--json").out)
    (accepted,) = json.loads(commands("failures", ended, "--accept", group["group"], "--json").out)
    assert accepted["accepted"]["by"]
    assert "No longer accepted" in commands("failures", ended, "--withdraw", group["group"]).out
    assert "nothing to withdraw" in commands("failures", ended, "--withdraw", group["group"], code=68).err
    for unknown in ("none", "\udcff"):  # the latter: of a shell in another encoding
        assert "no group of failures" in commands("failures", ended, "--accept", unknown, code=66).err
    assert commands("failures", ended, "--accept", group["group"], "--note", "caf\udce9 known").code == 0
    assert "known" in commands("failures", ended).out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--note", "x"], "--note says why"), (["--accept", "a", "--withdraw", "b"], "exclude one another"), (["--accept", "a", "--documents"], "leave out --documents"),
        (["--export", "x", "--limit", "5"], "leave out --limit"), (["--accept", "a", "--export", "x"], "leave out --export"), (["--accept", "a", "--note", "x" * 501], "500 are kept"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(
    commands: Commands, arguments: list[str], said: str
) -> None:
    assert said in commands("failures", "none", *arguments, code=64).err


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-failures", "x"), ("--max-failures", "-1"), ("--max-failure-rate", "5"), ("--max-failure-rate", "101%"), ("--max-new-cause", "0")],
)  # fmt: skip
def test_what_is_no_limit_is_refused(commands: Commands, option: str, value: str) -> None:
    for command in (["run", "some-model"], ["resume", "none"], ["set", "none"]):
        error = commands(*command, option, value, code=64).err
        assert option in error
        assert "off" in error or "No such option" in error
    commands.set(WHIMBREL_MAX_FAILURE_RATE="5")
    assert "WHIMBREL_MAX_FAILURE_RATE" in commands("status", code=64).err


def test_a_budget_is_changed_while_a_run_waits(commands: Commands, store: MongoStore, database: Data) -> None:
    commands.set(MONGODB_DB_NAME=database.name)
    database["things"].insert_one({"n": 0})
    run = start_run(store, ADD.definition, who="test", defaults=DEFAULTS)
    said = commands("set", run.id, "--max-failures", "100", "--max-failure-rate", "10%").out
    assert "at most 100 failures, at most 10% of the documents" in said
    assert (
        "Failure budget: at most 10% of the documents" in commands("set", run.id, "--max-failures", "off").out
    )


def test_a_plan_tells_a_run_what_was_seen(
    commands: Commands, store: MongoStore, database: Data, tmp_path: Path
) -> None:
    commands.set(MONGODB_DB_NAME=database.name)
    database["somemodels"].insert_many([{"status": "pending", "data": "none"} for _ in range(30)])
    (tmp_path / "plan.json").write_text(commands("plan", "some-model", "--json", code=2).out)
    (failure,) = json.loads((tmp_path / "plan.json").read_text())["failures"]
    commands("run", "some-model", "-y", "--plan", "plan.json", "--detach")
    known = [(row["group"], row["accepted"]) for row in database["whimbrel_known"].find()]
    assert known == [(failure["group"], False)]
    for text, said in ((None, "No such file"), ("[]", "is no plan"), ("{", "is no plan"), ('{"migration": "other", "failures": []}', "a plan of other")):  # fmt: skip
        if text is not None:
            (tmp_path / "other.json").write_text(text)
        assert said in commands("run", "some-model", "--plan", "other.json", code=64).err


# export


def test_all_failures_are_written_to_a_new_file(commands: Commands, ended: str, tmp_path: Path) -> None:
    assert "3 failures" in commands("failures", ended, "--export", "out.jsonl").err
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["id"], row["kind"], row["state"]) for row in rows] == [
        (key, "data", "dead") for key in range(3)
    ]
    assert "is left as it is" in commands("failures", ended, "--export", "out.jsonl", code=64).err
    assert "is a folder" in commands("failures", ended, "--export", str(tmp_path), code=64).err
    assert "is empty" in commands("failures", ended, "--export", "", code=64).err
    assert "cannot be written" in commands("failures", ended, "--export", "none/out.jsonl", code=64).err
    lines = commands("failures", ended, "--export", "-", "--state", "dead").out.splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert commands("failures", ended, "--export", "-", "--state", "open").out == ""
    told = json.loads(commands("failures", ended, "--export", "two.jsonl", "--json").out)
    assert (told["failures"], told["file"]) == (3, "two.jsonl")
    assert {path.name for path in tmp_path.iterdir()} == {"out.jsonl", "two.jsonl"}, (
        "and nothing half written"
    )


def test_a_full_disk_is_told(commands: Commands, ended: str) -> None:
    said = commands("failures", ended, "--export", "/dev/full", code=1)
    assert "/dev/full: No space left on device" in said.err
    assert "not complete" in said.err


@pytest.fixture
def many(commands: Commands, store: MongoStore, database: Data, ended: str) -> str:
    """The same run with many more failures, more than fit into a pipe."""
    run = store.ledger.runs.get(ended)
    batch = store.ledger.batches.list(ended)[0]
    assert run is not None
    failed = [FailedDocument(key=Key.of(key), kind=FailureKind.DATA, type="E", message="x" * 500) for key in range(100, 3100)]  # fmt: skip
    store.ledger.failures.record(run, batch, failed)
    return ended


def test_a_reader_that_goes_away_ends_the_export_quietly(many: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "whimbrel.cli.main", "failures", many, "--export", "-"]
    child = preloaded.Popen(
        command, env={**os.environ}, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        first = json.loads(child.stdout.readline())
        child.stdout.close()
        error = child.stderr.read().decode()
    assert first["migrationId"] == many
    assert (child.returncode, "Traceback" in error) == (1, False)
    assert "error" not in error
