"""Which database a command uses; and that what is refused, or only looks, writes nothing there."""

# ruff: noqa: F811  fixtures are imported by their names

import json
import secrets
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from pymongo import MongoClient

from tests.conftest import SHORT
from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.integration.in_process_system import DEFAULTS
from whimbrel import Migration
from whimbrel.engine.operating.start import draft_run
from whimbrel.errors import DatabaseRefused
from whimbrel.mongo.store import connected

Client = MongoClient[dict[str, Any]]


@pytest.fixture
def name(client: Client) -> Iterator[str]:
    """Of a database that is not there; whatever is made of it is dropped."""
    found = f"none_{secrets.token_hex(4)}"
    yield found
    for each in (found, found.upper()):
        client.drop_database(each)


def addressed(uri: str, database: str) -> str:
    return urlsplit(uri)._replace(path=f"/{database}").geturl()


def test_a_run_works_in_the_database_of_the_address(
    commands: Commands, client: Client, name: str, mongo_uri: str
) -> None:
    """Its workers too: the documents are changed, and the ledger is beside them."""
    client[name]["somemodels"].insert_one({"status": "pending", "data": {"score": 1, "level": "a"}})
    commands.set(MONGODB_URI=addressed(mongo_uri, name))
    said = commands("run", "some-model", "--workers", "1", "--json", "-y")
    assert json.loads(said.out)["collection"] == f"{name}.somemodels"
    assert client[name]["somemodels"].count_documents({"status": "success"}) == 1
    assert client[name]["whimbrel_runs"].count_documents({"status": "completed"}) == 1


def test_two_names_of_a_database_are_said_in_one_line(
    commands: Commands, client: Client, name: str, mongo_uri: str
) -> None:
    commands.set(MONGODB_URI=addressed(mongo_uri, "elsewhere"), MONGODB_DB_NAME=name)
    for command in (["status"], ["plan", "some-model"], ["workers", "--json"]):
        said = commands(*command, code=None).err
        (line,) = (each for each in said.splitlines() if "'elsewhere'" in each)
        assert f"'{name}' is used" in line
    commands.set(MONGODB_URI=addressed(mongo_uri, name))
    assert "is used" not in commands("status").err


LOOKING = [
    (["status"], 0),
    (["status", "--json"], 0),
    (["status", "nix"], 66),
    (["status", "--watch"], 0),
    (["workers"], 0),
    (["workers", "--here"], 1),
    (["failures", "nix"], 66),
    (["failures"], 66),
    (["verify", "nix"], 66),
    (["pause", "nix"], 66),
    (["resume", "nix"], 66),
    (["retry", "nix"], 66),
    (["cancel", "nix"], 66),
    (["rollback", "nix", "--yes"], 66),
    (["cleanup", "nix", "--yes"], 66),
    (["set", "nix", "--rate", "5"], 66),
    (["prune", "--dry-run"], 0),
    (["prune", "--yes"], 0),
    (["schedule", "list"], 0),
    (["schedule", "status"], 0),
    (["schedule", "remove", "nix"], 66),
    (["schedule", "run", "nix"], 66),
    (["schedule", "set", "nightly", "--migration", "nix", "--cron", "0 3 * * *"], 66),
    (["schedule", "set", "nightly", "--migration", "some-model", "--cron", "often"], 64),
    (["plan", "some-model"], 67),
    (["run", "some-model"], 67),
    (["run", "some-modle"], 66),
    (["run", "some-model", "--filter", '{"$where": "1"}'], 65),
]


def test_what_is_refused_or_only_looks_makes_no_database(
    commands: Commands, client: Client, name: str
) -> None:
    commands.set(MONGODB_DB_NAME=name)
    made = {}
    for arguments, code in LOOKING:
        commands(*arguments, code=code)
        if name in client.list_database_names():
            made[" ".join(arguments)] = client[name].list_collection_names()
            client.drop_database(name)
    assert made == {}


def test_the_first_run_of_a_ledger_is_added_behind_its_fences(
    client: Client, name: str, mongo_uri: str
) -> None:
    """Hole H72. The first of two processes that add a run to a new ledger must not be before the index that keeps them apart."""
    client[name]["things"].insert_one({})
    it = Migration(name="m", collection="things", update={"$set": {"a": 1}})
    with connected(mongo_uri, name, SHORT) as store:
        store.ledger.runs.add(draft_run(store, it.definition, defaults=DEFAULTS), "test")
        assert client[name]["whimbrel_runs"].index_information()["one_run_a_collection"]["unique"]


def test_a_run_that_is_refused_leaves_a_database_that_is_there_as_it_was(
    commands: Commands, client: Client, name: str
) -> None:
    """By preflight, by a filter that MongoDB does not understand, by warnings under --strict."""
    client[name]["somemodels"].insert_many({"status": "pending", "n": n} for n in range(3))
    client[name].command("collMod", "somemodels", validator={"absent": {"$exists": True}})
    commands.set(MONGODB_DB_NAME=name)
    commands("run", "some-model", "--filter", '{"a": {"$nix": 1}}', code=65)
    commands("run", "some-model", "--strict", code=77)
    commands("plan", "some-model", code=None)
    assert client[name].list_collection_names() == ["somemodels"]
    assert client[name]["somemodels"].count_documents({"status": "pending"}) == 3


def test_the_default_schedule_is_shown_before_it_is_made_and_made_with_the_first_change(
    commands: Commands, client: Client, name: str
) -> None:
    commands.set(MONGODB_DB_NAME=name, CRON_SCHEDULE="0 4 * * *")
    (before,) = json.loads(commands("schedule", "list", "--json").out)
    assert (before["name"], before["cron"], before["enabled"]) == ("default", "0 4 * * *", False)
    assert name not in client.list_database_names()
    commands("schedule", "set", "default", "--priority", "7")
    (after,) = json.loads(commands("schedule", "list", "--json").out)
    assert (after["cron"], after["priority"], after["migration"]) == ("0 4 * * *", 7, before["migration"])
    commands("schedule", "remove", "default")
    assert json.loads(commands("schedule", "list", "--json").out) == []


@pytest.mark.parametrize("reserved", ["admin", "local", "config"])
def test_mongodbs_own_databases_are_refused(
    commands: Commands, client: Client, mongo_uri: str, reserved: str
) -> None:
    before = set(client[reserved].list_collection_names())
    commands.set(MONGODB_DB_NAME=reserved)
    for command in ("status", "run some-model", "worker --workers 1", "serve"):
        assert "is MongoDB's own" in commands(*command.split(), code=64).err
    commands.unset("MONGODB_DB_NAME")
    commands.set(MONGODB_URI=addressed(mongo_uri, reserved))
    assert "is MongoDB's own" in commands("status", code=64).err
    assert set(client[reserved].list_collection_names()) == before


def test_a_name_that_differs_in_small_and_capital_letters_is_named(
    commands: Commands, client: Client, name: str, mongo_uri: str
) -> None:
    """MongoDB keeps no two such databases (13297): the first that is made prevents the other."""
    client[name]["Things"].insert_one({})
    commands.set(MONGODB_DB_NAME=name.upper())
    assert f"There is a database '{name}'." in commands("run", "some-model", code=67).err
    with (
        connected(mongo_uri, name.upper(), SHORT) as store,
        pytest.raises(DatabaseRefused, match=f"has a database '{name}' already.*Set MONGODB_DB_NAME={name}"),
    ):
        store.prepare()
    said = commands("worker", "--workers", "1", code=71)
    assert f"Set MONGODB_DB_NAME={name}" in said.err


def test_a_misspelt_collection_is_named(commands: Commands, client: Client, name: str) -> None:
    client[name]["SomeModels"].insert_one({})
    commands.set(MONGODB_DB_NAME=name)
    assert "There is a collection 'SomeModels'." in commands("run", "some-model", code=67).err
