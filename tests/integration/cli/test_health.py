"""`whimbrel health`, and runs of the command line that obey it and say why."""

# ruff: noqa: F811  fixtures are imported by their names

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from tests.servers import preloaded
from tests.servers.serve import eventually
from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import SIGNALS, Level
from whimbrel.domain.health.verdict import Verdict
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.health_settings import ignore_signal
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
FILE = """
from whimbrel import Migration
marking = Migration(name="marking", collection="things", update={"$set": {"m": 1}})
"""


@pytest.fixture
def things(database: Docs, commands: Commands, tmp_path: Path) -> Docs:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_many({"_id": n} for n in range(2500))
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="file.py")
    return database


def test_without_a_sampler_it_looks_itself_and_writes_nothing(commands: Commands, things: Docs) -> None:
    said = commands("health")
    assert "Nobody samples" in said.out
    assert all(name in said.out for name in SIGNALS)
    found = json.loads(commands("health", "--json").out)
    assert (found["state"], found["share"], found["age"]) == ("ok", 1.0, None)
    rows = {row["name"]: row for row in found["signals"]}
    assert rows["disk-used"]["value"] > 0
    assert (rows["member-lag"]["slow"], rows["member-lag"]["stop"]) == (2.0, 5.0)
    assert "whimbrel_health" not in things.list_collection_names()


def test_a_verdict_is_shown_with_its_reasons(commands: Commands, store: MongoStore, things: Docs) -> None:
    quiet = SignalState(level=Level.OK, value=38.0, usual=9.5, how="a find; only shown: nobody else is at work on this server, whom a run could hurt")  # fmt: skip
    store.ledger.health.keep(Verdict(share=0.25, since=1796047320.0, signals={"read-canary": quiet}), None)
    said = commands("health").out
    assert "Goes at 25% of its speed since 14:02 UTC" in said
    assert "Only shown: read-canary: nobody else is at work on this server" in said
    assert re.search(r"read-canary +ok +38 ms +9.5 ms +10 ms +50 ms", said)
    found = json.loads(commands("health", "--json").out)
    assert found["since"] == "2026-11-30T14:02:00.000Z"
    assert next(row["usual"] for row in found["signals"] if row["name"] == "read-canary") == 9.5


def test_signals_are_changed_and_bad_changes_are_refused(
    commands: Commands, store: MongoStore, things: Docs
) -> None:
    assert "slow 3, stop 20" in commands("health", "member-lag", "--slow", "3", "--stop", "20").out
    assert "slow 3, stop 9" in commands("health", "member-lag", "--stop", "9").out
    assert store.ledger.health.settings().thresholds["member-lag"].slow == 3
    commands("health", "member-lag", "--reset")
    assert "member-lag" not in store.ledger.health.settings().thresholds
    assert "is ignored until" in commands("health", "disk-used", "--ignore", "2h", "--note", "a backup").out
    assert "disk-used" in store.ledger.health.settings().ignored
    commands("health", "disk-used", "--heed")
    assert not store.ledger.health.settings().ignored
    for words, code, why in (
        (["lag", "--slow", "3"], 66, "There is no signal 'lag'"),
        (["member-lag", "--slow", "9"], 64, "slow=9 is above stop=5"),
        (["member-lag"], 64, "SIGNAL is the one to change"),
        (["--slow", "3"], 64, "Name one SIGNAL"),
        (["member-lag", "--slow", "3", "--heed"], 64, "Name one SIGNAL"),
        (["member-lag", "--ignore", "soon"], 64, "give how long"),
        (["member-lag", "--ignore", "9d"], 64, "7 days"),
    ):
        assert why in " ".join(commands("health", *words, code=code).err.split()), words
    assert not store.ledger.health.settings().thresholds


def test_plan_says_in_one_line_that_all_is_read(commands: Commands, things: Docs) -> None:
    commands.set(WHIMBREL_HEALTH="on", WHIMBREL_HEALTH_IGNORE_MEMBERS="db9")
    said = commands("plan", "marking").out
    assert "info: health. All 19 signals of the database's health are read." in said
    assert "warning: health. WHIMBREL_HEALTH_IGNORE_MEMBERS names db9:27017" in said
    rows = json.loads(commands("plan", "marking", "--json").out)["warnings"]
    finding = next(row for row in rows if row["check"] == "health")
    assert finding["level"] == "info"
    assert set(finding["detail"]["read"]) == SIGNALS.keys() - finding["detail"]["absent"].keys()


def test_a_run_waits_says_why_and_goes_on(commands: Commands, store: MongoStore, things: Docs) -> None:
    """Worker processes of its own, the sampler, the gate and the message: all of it."""
    commands.set(WHIMBREL_HEALTH="on")
    commands("health", "disk-used", "--slow", "0.001", "--stop", "0.001")
    running = preloaded.Popen(
        [sys.executable, "-m", "whimbrel.cli.main", "run", "marking", "-y", "--workers", "1", "--rate", "100"]
    )

    def message() -> str:
        runs = store.ledger.runs.list()
        return runs[0].message if runs else ""

    eventually(lambda: message().startswith("Waits since"))
    assert "disk in use" in message()
    assert "running, waits" in " ".join(commands("status").out.split())
    assert things["things"].count_documents({"m": 1}) < 2500
    control.adjust(store.ledger, store.ledger.runs.list()[0].id, who="test", rate=None)
    ignore_signal(store.ledger, "disk-used", seconds=3600, who="test", why="")
    assert running.wait(60) == 0
    assert store.ledger.runs.list()[0].status is RunStatus.COMPLETED
    assert things["things"].count_documents({"m": 1}) == 2500
