"""`whimbrel webhooks`, and runs of the command line that tell what becomes of them."""

# ruff: noqa: F811  fixtures are imported by their names

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.servers.receiver import Receiver, receiving

KEY = "a secret of the tests"
FILE = """
from whimbrel import Migration
marking = Migration(name="marking", collection="things", update={"$set": {"m": 1}})
"""


@pytest.fixture
def receiver(database: Database[dict[str, Any]], commands: Commands, tmp_path: Path) -> Iterator[Receiver]:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_many({"_id": n} for n in range(5))
    with receiving() as found:
        commands.set(
            MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="file.py", WHIMBREL_WEBHOOKS=found.url, WHIMBREL_WEBHOOK_SECRET=KEY,
            WHIMBREL_WEBHOOK_ALLOW_PRIVATE="true",
        )  # fmt: skip
        yield found


def test_a_run_tells_what_becomes_of_it_to_its_end(
    commands: Commands, receiver: Receiver, database: Database[dict[str, Any]]
) -> None:
    run = json.loads(commands("run", "marking", "--workers", "1", "--json").out)["migrationId"]
    assert receiver.ids == [f"{run}:{number}" for number in (1, 2, 3)]
    said = commands("webhooks")
    assert said.out.count("delivered") == 3
    assert "run.completed" in said.out
    assert "of=tests" not in said.out + said.err
    rows = json.loads(commands("webhooks", "--json", "--limit", "2").out)
    assert [row["event"] for row in rows] == ["run.completed", "run.running"]
    assert "--cursor" in commands("webhooks", "--limit", "2").err
    assert "no such deliveries" in commands("webhooks", "--state", "failed").out
    last = rows[0]["id"]
    assert "only one that has failed" in commands("webhooks", "--resend", last, code=68).err
    assert "no delivery 'none'" in commands("webhooks", "--resend", "none", code=66).err
    assert "leave the other options out" in commands("webhooks", "--resend", last, "--test", code=64).err
    database["whimbrel_deliveries"].update_one({"_id": last}, {"$set": {"state": "failed"}})
    assert "is due again" in commands("webhooks", "--resend", last).out
    assert [row["id"] for row in json.loads(commands("webhooks", "--state", "pending", "--json").out)] == [
        last
    ]


def test_a_test_is_sent_and_shown(commands: Commands, receiver: Receiver) -> None:
    receiver.answers = [204, 404]
    assert "yes" in commands("webhooks", "--test").out
    (row,) = json.loads(commands("webhooks", "--test", "--json", code=1).out)
    assert (row["delivered"], row["answered"], row["problem"]) == (False, 404, "It answered 404.")
    assert receiver.events == ["webhook.test"] * 2
    assert "leave --state" in commands("webhooks", "--test", "--state", "failed", code=64).err


def test_what_is_refused_is_refused_before_anything_is_done(
    commands: Commands, receiver: Receiver, database: Database[dict[str, Any]]
) -> None:
    commands.set(WHIMBREL_WEBHOOK_ALLOW_PRIVATE="false", WHIMBREL_WEBHOOKS="http://localhost:9/hidden")
    for words in (("run", "marking"), ("worker",), ("serve",), ("webhooks", "--test")):
        said = commands(*words, code=64)
        assert "WHIMBREL_WEBHOOK_ALLOW_PRIVATE=true" in said.err, words
        assert "hidden" not in said.err
    commands.unset("WHIMBREL_WEBHOOK_SECRET")
    assert "WHIMBREL_WEBHOOK_SECRET" in commands("run", "marking", code=64).err
    commands.unset("WHIMBREL_WEBHOOKS")
    assert "No webhooks are set" in commands("webhooks", "--test", code=68).err
    assert database.list_collection_names() == ["things"]
