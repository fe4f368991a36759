"""Commands without a run take the last that fits, and say which; where several fit, one must be named."""

# ruff: noqa: F811  fixtures are imported by their names

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import DEFAULTS, migrate, start
from whimbrel import Migration
from whimbrel.cli.arguments import which_run
from whimbrel.cli.output.screen import Screen
from whimbrel.domain.runs.run import Run
from whimbrel.engine.operating import control
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
DEFINED = """
from whimbrel import Migration
ONE = Migration(name="one", collection="things", update={"$set": {"a": 1}})
TWO = Migration(name="two", collection="things", update={"$set": {"b": 1}}, undo=True)
"""
ONE = Migration(name="one", collection="things", update={"$set": {"a": 1}})
TWO = Migration(name="two", collection="things", update={"$set": {"b": 1}}, undo=True)


def failing(thing: dict[str, Any]) -> dict[str, Any]:
    raise ValueError(f"not {thing['_id']}")


FAILING = Migration(name="failing", collection="things", transform=failing, max_attempts=1)


@pytest.fixture
def things(database: Docs, commands: Commands, tmp_path: Path) -> Docs:
    database["things"].insert_many({"_id": n} for n in range(3))
    (tmp_path / "defined.py").write_text(DEFINED)
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="defined.py")
    return database


def paused(store: MongoStore, it: Migration) -> Run:
    return control.pause(store.ledger, start(store, it).id, who="test")


def test_what_has_ended_is_the_last_that_fits(commands: Commands, store: MongoStore, things: Docs) -> None:
    """Each command has its own idea of what fits: a later run of another kind is not taken for it."""
    failed = migrate(store, FAILING).run.id
    undoable = migrate(store, TWO).run.id
    last = migrate(store, ONE).run.id
    paused(store, ONE)

    said = commands("failures", "--json")
    assert (json.loads(said.out), said.err.splitlines()[0].split()[1]) == ([], last)
    verified = commands("verify", "--workers", "1", "--json")
    assert json.loads(verified.out)["of"] == last
    assert f"Run {last} of one on {things.name}.things, completed." in verified.err.splitlines()[0]
    assert f"Run {failed} of failing" in commands("retry", "--detach", code=None).err.splitlines()[0]
    rolled = commands("rollback", "--yes", "--workers", "1", "--json", code=None)
    assert f"Run {undoable} of two" in rolled.err.splitlines()[0]


def test_what_fits_is_found_behind_pages_of_what_does_not(
    store: MongoStore, things: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    undoable = migrate(store, TWO).run.id
    for _ in range(5):
        control.cancel(store.ledger, start(store, ONE).id, who="test")
    monkeypatch.setattr(which_run, "PAGE", 2)
    assert which_run.choose_run(Screen(), store.ledger, None, which_run.TO_ROLL_BACK).id == undoable


LIVE: list[tuple[list[str], Callable[[Run], bool]]] = [
    (["set", "--rate", "5"], lambda run: run.rate == 5),
    (["resume", "--detach"], lambda run: run.status == "queued"),
    (["pause"], lambda run: run.status == "paused"),
    (["cancel", "--no-wait"], lambda run: run.status == "cancelling"),
]


def test_what_lives_is_the_only_one_that_fits(commands: Commands, store: MongoStore, things: Docs) -> None:
    run = paused(store, ONE)
    for command, done in LIVE:
        said = commands(*command)
        assert said.err.splitlines()[0].startswith(f"Run {run.id} of one on {things.name}.things, ")
        found = store.ledger.runs.get(run.id)
        assert found is not None
        assert done(found), command
    for command, _ in LIVE[:-1]:
        assert "There is no run that could be" in commands(*command, code=66).err


def test_where_several_fit_one_must_be_named(commands: Commands, store: MongoStore, things: Docs) -> None:
    first, second = paused(store, ONE), paused(store, TWO)
    for command in (["resume", "--detach"], ["cancel"], ["set", "--rate", "5"], ["status", "--watch"]):
        said = commands(*command, code=64).err
        assert "name one" in said
        assert first.id in said
        assert second.id in said
    assert {run.status for run in store.ledger.runs.list()} == {"paused"}
    commands("cancel", second.id, "--no-wait")
    assert f"Run {first.id}" in commands("resume", "--detach").err.splitlines()[0]


def test_the_one_that_is_watched_is_at_work_or_the_last(
    commands: Commands, store: MongoStore, things: Docs
) -> None:
    migrate(store, ONE)
    last = migrate(store, TWO).run.id
    said = commands("status", "--watch")
    assert f"Run {last} of two" in said.err.splitlines()[0]
    assert last in said.out
    checking = start_verification(store, last, TWO.definition, who="test", defaults=DEFAULTS)
    control.cancel(store.ledger, checking.id, who="test")  # the newest, and of another kind
    assert f"Run {checking.id} of two" in commands("status", "--watch").err.splitlines()[0]


PROGRAM = f"{sys.executable} -m whimbrel.cli.main"
ENDS = [
    ("status >&-", 0),
    ("status 2>&-", 0),
    ("status <&-", 0),
    ("status <&- >&- 2>&-", 0),
    ("status nix >&- 2>&-", 66),
    ("status --json >&-", 0),
    ("nix 2>&-", 64),
    ("status > /dev/full", 1),
    ("status | true", 1),
    ("status nix 2>&1 | true", 66),
]


def test_closed_streams_and_broken_pipes_end_no_command_with_a_traceback(
    things: Docs, mongo_uri: str, tmp_path: Any
) -> None:
    """Nor does what is printed reach a connection that was given the number of a closed stream."""
    environment = {**os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": things.name, "W": PROGRAM}
    script = "\n".join(f'$W {line}; echo "${{PIPESTATUS[0]}}" >&3' for line, _ in ENDS)
    done = subprocess.run(
        ["bash", "-c", f"exec 3>codes\n{script}"], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )  # fmt: skip
    codes = [int(each) for each in (tmp_path / "codes").read_text().split()]
    assert codes == [code for _, code in ENDS]
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_run_whose_progress_nobody_reads_goes_on_to_its_end(
    things: Docs, mongo_uri: str, tmp_path: Any, client: MongoClient[dict[str, Any]]
) -> None:
    """`2>&1 | true` for what it says on its way; and with all streams closed, its workers' too."""
    things["somemodels"].insert_many(
        {"status": "pending", "data": {"score": 1, "level": "a"}} for _ in range(20)
    )
    environment = {
        **os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": things.name, "W": PROGRAM, "LOG_LEVEL": "debug",
    }  # fmt: skip
    closed = "$W run some-model -y --workers 1 <&- >&- 2>&-"
    unheard = "$W run some-model -y --workers 1 2>&1 >one | true; [ ${PIPESTATUS[0]} = 0 ]"
    for command in (unheard, closed):
        things["somemodels"].update_many({}, {"$set": {"status": "pending"}})
        subprocess.run(["bash", "-c", command], env=environment, cwd=tmp_path, check=True)
        assert things["somemodels"].count_documents({"status": "success"}) == 20


@pytest.mark.parametrize(
    "words", [["status", "caf\udce9"], ["pause", "caf\udce9"], ["schedule", "remove", "caf\udce9"], ["status", "--migration", "caf\udce9"]]
)  # fmt: skip
def test_bytes_that_are_no_utf_8_are_the_name_of_nothing(
    commands: Commands, things: Docs, words: list[str]
) -> None:
    assert "'caf\\udce9' is no text in UTF-8" in commands(*words, code=64).err
