"""`worker --json` and `serve --json`: standard output has one line of JSON for each state that a run comes into."""

import json
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_system import start, system, until
from whimbrel import Migration
from whimbrel.cli.output.run_log import RunLog
from whimbrel.cli.output.screen import Screen
from whimbrel.mongo.store import MongoStore


def test_each_state_of_a_run_is_one_line(
    store: MongoStore, database: Database[dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    migration = Migration(name="adding", collection="things", update={"$set": {"n": 1}})
    database["things"].insert_many({"_id": number} for number in range(30))
    run_log = RunLog(Screen(json=True), store.ledger)
    run = start(store, migration, batch_size=10)
    run_log.tell(run_log.look())
    with system(store, [migration]):
        until(store, run)
    run_log.tell(run_log.look())
    run_log.tell(run_log.look())  # nothing is new

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    assert [(line["migrationId"], line["status"]) for line in lines] == [
        (run.id, "queued"),
        (run.id, "completed"),
    ]
    assert (lines[1]["totalItems"], lines[1]["changed"]) == (30, 30)
