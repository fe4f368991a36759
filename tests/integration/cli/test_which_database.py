"""Which MongoDB a command works with: said in its first line, made by few, printed by `uri`, opened by `mongo`."""

# ruff: noqa: F811  fixtures are imported by their names

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.uri_parser import parse_uri

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.servers import preloaded
from whimbrel.mongo.embedded.folder import Folder
from whimbrel.mongo.embedded.server import find, stop

RUN = "20261231-abc234"
LOOKS = [
    ["status"], ["status", RUN], ["status", "--watch"], ["failures"], ["failures", RUN], ["plan", "some-model"], ["workers"],
    ["workers", "--here"], ["schedule", "list"], ["schedule", "status"], ["schedule", "start"], ["schedule", "stop"],
    ["schedule", "remove", "nightly"], ["verify"], ["rollback", RUN, "--yes"], ["cleanup", RUN, "--yes"], ["prune", "--dry-run"],
    ["run", "some-model"], ["resume"], ["retry"], ["pause"], ["cancel"], ["set", "--rate", "5"], ["uri"], ["mongo"],
    ["mongo", "--", "true"],
]  # fmt: skip


@pytest.fixture
def at_home(commands: Commands, tmp_path: Path) -> Iterator[Commands]:
    """Commands in a folder without an embedded MongoDB, and without the address of another."""
    commands.unset("MONGODB_URI")
    commands.set(PATH=str(tmp_path / "no programs"))
    yield commands
    for home in tmp_path.rglob(".whimbrel"):
        folder = Folder.at(home)
        if (server := find(folder)) is not None:
            stop(folder, server)


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_what_only_looks_makes_no_database(at_home: Commands, tmp_path: Path, words: list[str]) -> None:
    said = at_home(*words, code=72)
    assert (
        f"There is no database: {tmp_path / '.whimbrel'} holds no embedded MongoDB, and MONGODB_URI is not set."
        in said.err
    )
    assert "Set MONGODB_URI" in said.err
    assert "whimbrel uri --create" in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_home_without_a_database_in_it_is_not_filled(at_home: Commands, tmp_path: Path) -> None:
    (tmp_path / ".whimbrel" / "mongo").mkdir(parents=True)
    at_home("status", code=72)
    assert list((tmp_path / ".whimbrel" / "mongo").iterdir()) == []


def test_from_a_folder_below_the_right_one_is_named(
    at_home: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".whimbrel" / "mongo").mkdir(parents=True)
    (tmp_path / ".whimbrel" / "mongo" / "WiredTiger").touch()
    (tmp_path / "below" / "there").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "below" / "there")
    said = at_home("status", code=72)
    assert (
        f"There is one in {tmp_path / '.whimbrel'}: change to that folder, or set WHIMBREL_HOME to it."
        in said.err
    )


def test_migrations_are_shown_without_any_database(at_home: Commands, tmp_path: Path) -> None:
    assert "some-model" in at_home("migrations").out
    assert list(tmp_path.iterdir()) == []


def test_data_is_loaded_into_the_embedded_database_and_found_there(at_home: Commands, tmp_path: Path) -> None:
    """As a person would: an address, a load, a look; each command says which database it asks."""
    place = f"MongoDB: the embedded MongoDB in {tmp_path / '.whimbrel'}, database whimbrel."
    made = at_home("uri", "--create")
    assert place in made.err
    assert "It is new and empty. It runs until the next command that uses it has ended." in made.err
    (address,) = made.out.split()
    with MongoClient[dict[str, Any]](address) as client:
        assert client.get_default_database().name == "whimbrel"
        client.get_default_database()["people"].insert_one({"_id": 1})
    assert json.loads(at_home("uri", "--json").out) == {
        "uri": address,
        "database": "whimbrel",
        "embedded": True,
    }
    assert json.loads(at_home("mongo", "--json").out)["uri"] == address
    guided = at_home("mongo")  # no mongosh, and nobody who could wait for Ctrl-C
    assert guided.out.split() == [address]
    assert all(words in guided.err for words in ("mongoimport --config /dev/stdin", "MongoClient(os.environ"))

    code = (
        "import os, sys; from pymongo import MongoClient; there = MongoClient(os.environ['MONGODB_URI']); "
        "found = there[os.environ['MONGODB_DB_NAME']]['people'].count_documents({}); there.close(); sys.exit(found + 6)"
    )
    assert at_home("mongo", "--", sys.executable, "-c", code, code=7).err.count(place) == 1
    for words in (["status"], ["workers"], ["schedule", "list"]):
        assert at_home(*words).out.splitlines()[0] == place
        assert find(Folder.at(tmp_path / ".whimbrel")) is None  # it has stopped with its last user


@pytest.mark.parametrize(
    "words",
    [["failures"], ["plan", "some-model"], ["verify"], ["resume"], ["prune", "--dry-run"], ["status"]],
)
def test_which_database_is_asked_is_said_once(commands: Commands, mongo_uri: str, words: list[str]) -> None:
    """Where nothing is found too, and by its hosts alone, which fit on a line."""
    ((host, port),) = parse_uri(mongo_uri)["nodelist"]
    commands.set(MONGODB_DB_NAME="elsewhere")
    said = commands(*words, code=None)
    assert (said.out + said.err).count(f"MongoDB: {host}:{port}, database elsewhere.\n") == 1
    asked = commands(*words, "--json", code=None)
    assert "MongoDB: " not in asked.out


def test_mongosh_gets_the_address_where_nobody_sees_it(at_home: Commands, tmp_path: Path) -> None:
    """Another program by that name, which tells what it was given."""
    at_home("uri", "--create")
    shell = tmp_path / "no programs" / "mongosh"
    shell.parent.mkdir()
    shell.write_text(
        f'#!/bin/sh\necho "$MONGODB_URI" > "{tmp_path}/given"\necho "$@" >> "{tmp_path}/given"\nexit 3\n'
    )
    shell.chmod(0o755)
    at_home("mongo", code=3)
    address, words = (tmp_path / "given").read_text().splitlines()
    assert address.startswith("mongodb://whimbrel:")
    assert "process.env.MONGODB_URI" in words
    assert "mongodb://" not in words


def test_a_database_that_is_named_is_printed_as_it_is_and_told_without_its_password(
    commands: Commands, tmp_path: Path
) -> None:
    given = "mongodb://me:hush@127.0.0.1:1/shop?directConnection=true"
    commands.set(MONGODB_URI=given)
    said = commands("uri")
    assert said.out == f"{given}\n"
    assert "hush" not in said.err
    assert said.err == "MongoDB: 127.0.0.1:1, database shop.\n"
    assert list(tmp_path.iterdir()) == []


def test_a_worker_says_that_its_database_is_new(at_home: Commands, tmp_path: Path) -> None:
    """What makes one says so: by a process, which goes on until it is told to end."""
    environment = {**os.environ, "MONGODB_URI": ""}
    with preloaded.Popen(
        [sys.executable, "-m", "whimbrel.cli.main", "worker", "--workers", "1"], env=environment, cwd=tmp_path,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        line = process.stderr.readline()
        process.terminate()
        process.communicate(timeout=90)
    assert (
        line
        == f"MongoDB: the embedded MongoDB in {tmp_path / '.whimbrel'}, which is new and empty, database whimbrel.\n"
    )
