"""`whimbrel ensure`: what a deploy pipeline is told, and what it can leave to it; `depends_on` on the command line."""

# ruff: noqa: F811  fixtures are imported by their names

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.cli.test_cli import Cli, cli, environment, together  # noqa: F401
from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import DEFAULTS, system, until
from whimbrel import Migration
from whimbrel.engine.operating.control import pause, resume
from whimbrel.engine.operating.start_verification import start_verification
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
FILE = """
from whimbrel import Migration, migration

first = Migration(name="first", collection="things", update={"$inc": {"first": 1}})

@migration(collection="things", name="second", depends_on=["first@1"])
def second(document):
    if document.get("bad"):
        raise ValueError("bad")
    return {"$inc": {"second": document["first"]}}
"""


FIRST = Migration(name="first", collection="things", update={"$inc": {"first": 1}})


@pytest.fixture
def things(database: Docs, commands: Commands, tmp_path: Path) -> Docs:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_many({"_id": n} for n in range(20))
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="file.py")
    return database


def kinds(store: MongoStore) -> Counter[tuple[str, str, str]]:
    return Counter((run.migration, run.kind, str(run.status)) for run in store.ledger.runs.list())


def counted(database: Docs) -> Counter[tuple[Any, ...]]:
    return Counter(
        tuple(each.get(name) for name in ("first", "second")) for each in database["things"].find()
    )


def test_a_pipeline_asks_and_finishes_what_is_missing(
    store: MongoStore, things: Docs, commands: Commands
) -> None:
    assert commands("ensure", "first", code=10).out.startswith("Version 1 of first is not started.")
    assert not store.ledger.runs.list()
    refused = commands("run", "second", "--yes", code=68)
    assert "depends on 'first'" in refused.err
    assert "whimbrel run first" in refused.err
    assert "dependencies" in commands("plan", "second", code=68).out
    things["things"].update_one({"_id": 7}, {"$set": {"bad": True}})
    commands("ensure", "second", "--finish", "--workers", "1", code=2)
    told = json.loads(commands("ensure", "second", "--check", "--json", code=12).out)
    assert (told["state"], told["ensured"], told["complete"]) == ("failed", False, False)
    assert [(each["migration"], each["state"]) for each in told["dependsOn"]] == [("first", "verified")]
    things["things"].update_one({"_id": 7}, {"$unset": {"bad": ""}})
    done = json.loads(commands("ensure", "second", "--finish", "--workers", "1", "--json").out)
    assert (done["state"], done["ensured"], done["migrationId"]) == ("verified", True, told["migrationId"])
    assert done["verificationId"] is not None
    assert counted(things) == {(1, 1): 20}
    assert kinds(store) == {
        (name, kind, "completed"): 1 for name in ("first", "second") for kind in ("migration", "verification")
    }
    assert "complete and verified" in commands("ensure", "second").out
    commands("ensure", "second", "--finish")
    assert sum(kinds(store).values()) == 4
    listed = {each["name"]: each["dependsOn"] for each in json.loads(commands("migrations", "--json").out)}
    assert listed == {"some-model": [], "first": [], "second": ["first@1"]}
    assert "depends on" in commands("migrations").out


def test_each_state_has_a_code(store: MongoStore, things: Docs, commands: Commands) -> None:
    run = commands("run", "first", "--yes", "--detach").out.strip()
    assert run in commands("ensure", "first", code=11).out
    pause(store.ledger, run, who="test")
    assert run in commands("ensure", "first", code=12).out
    with system(store, [FIRST]):
        until(store, resume(store.ledger, run, who="test"))
        assert "but not verified" in commands("ensure", "first", code=13).out
        until(store, start_verification(store, run, None, who="test", defaults=DEFAULTS, sample=0))
    commands("ensure", "first@1")
    other = commands("ensure", "first@2", code=10)
    assert "with version 2 loaded, whimbrel ensure first@2 --finish" in " ".join(
        (other.out + other.err).split()
    )
    assert "Version 2 of 'first' cannot be run" in commands("ensure", "first@2", "--finish", code=66).err
    assert "give one of them" in commands("ensure", "first", "--check", "--finish", code=64).err
    assert "with a version" in commands("ensure", "first@x", code=64).err
    assert "There is no migration" in commands("ensure", "nix", code=66).err


def test_what_can_be_run_in_no_sequence_is_shown_with_its_file(
    things: Docs, commands: Commands, tmp_path: Path
) -> None:
    (tmp_path / "circle.py").write_text(
        "from whimbrel import Migration\n"
        'a = Migration(name="a", collection="c", update={"$set": {"a": 1}}, depends_on=["b"])\n'
        'b = Migration(name="b", collection="c", update={"$set": {"a": 1}}, depends_on=["a"])\n'
        'c = Migration(name="c", collection="c", update={"$set": {"a": 1}}, depends_on=["firts"])\n'
        'd = Migration(name="d", collection="c", update={"$set": {"a": 1}})\n'
    )
    both = ("--migrations", "file.py", "--migrations", "circle.py")
    broken = {
        each["name"]: each
        for each in json.loads(commands("migrations", "--json", *both).out)
        if each["broken"]
    }
    assert set(broken) == {"a", "b", "c"}
    assert broken["a"]["source"].endswith("circle.py")
    assert "in a circle" in broken["a"]["broken"]
    assert "Did you mean 'first'?" in broken["c"]["broken"]
    assert "in a circle" in commands("run", "a", *both, code=65).err
    commands("ensure", "a", *both, code=65)
    commands("ensure", "d", "--finish", *both, code=67)  # its collection is not there: nothing can be run


def test_two_pipelines_at_the_same_moment_do_it_once(
    store: MongoStore, database: Docs, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_many({"_id": n} for n in range(2000))
    command = ["ensure", "first", "--finish", "--migrations", "file.py", "--workers", "1", "--json"]
    told = [json.loads(said) for said in together(cli, command, command)]
    assert [each["state"] for each in told] == ["verified", "verified"]
    assert counted(database) == {(1, None): 2000}
    assert kinds(store) == {("first", kind, "completed"): 1 for kind in ("migration", "verification")}
