"""`whimbrel freeze` and `unfreeze`, and windows and `--nice` on the command line."""

# ruff: noqa: F811  fixtures are imported by their names

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.integration.in_process_commands import Commands, commands  # noqa: F401
from whimbrel.domain.runs.allowance import Circumstances, allowance
from whimbrel.domain.runs.freezes import Freeze
from whimbrel.domain.runs.states import RunStatus
from whimbrel.mongo.store import MongoStore

Docs = Database[dict[str, Any]]
FILE = """
from whimbrel import Migration
marking = Migration(name="marking", collection="things", update={"$set": {"m": 1}}, undo=True)
"""


@pytest.fixture
def things(database: Docs, commands: Commands, tmp_path: Path) -> Docs:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_many({"_id": n} for n in range(20))
    commands.set(MONGODB_DB_NAME=database.name, WHIMBREL_MIGRATIONS="file.py")
    return database


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_a_freeze_is_made_shown_and_lifted(commands: Commands, store: MongoStore, things: Docs) -> None:
    assert "Nothing is frozen." in commands("freeze", "--list").out
    assert "whimbrel_freezes" not in things.list_collection_names()
    said = one_line(commands("freeze", "--note", "moving").out)
    assert "Frozen until somebody lifts it: whimbrel unfreeze (moving)." in said
    assert "Runs wait, whatever the signals say." in one_line(commands("health").out)
    planned = one_line(commands("freeze", "--from", "2h", "--until", "2099-01-01T00:00+01:00").out)
    assert "A freeze is planned from" in planned
    assert "until 2098-12-31 23:00 UTC." in planned
    name = planned.rpartition("whimbrel unfreeze ")[2]
    found = json.loads(commands("freeze", "--list", "--json").out)
    assert (found["frozen"], found["until"], found["note"]) == (True, None, "moving")
    assert [row["state"] for row in found["freezes"]] == ["in force", "planned"]
    assert found["freezes"][1]["until"] == "2098-12-31T23:00:00.000Z"
    assert "1 freeze lifted. Nothing is frozen." in one_line(commands("unfreeze").out)
    assert "Nothing was frozen." in commands("unfreeze").out
    assert "1 freeze lifted." in commands("unfreeze", name).out
    listed = one_line(commands("freeze", "--list").out)
    assert listed.count("over") == 2, "for a week"
    assert "There is no freeze 'x'" in commands("unfreeze", "x", code=66).err
    audited = [row["what"].split()[0] for row in things["whimbrel_audit"].find({"who": {"$regex": "@"}})]
    assert audited == ["freeze"] * 4


def test_what_is_no_utf_8_is_audited_with_escapes(commands: Commands, things: Docs) -> None:
    """Such bytes come from a terminal of another encoding. The override was in force before its audit failed."""
    for words in (["freeze"], ["health", "disk-used", "--ignore", "1h"]):
        assert commands(*words, "--note", "caf\udce9").code == 0
    audited = [each["why"] for each in things["whimbrel_audit"].find()]
    assert len(audited) == 2
    assert all("caf\\udce9" in why for why in audited)
    things["whimbrel_audit"].delete_many({})
    commands.set(LOGNAME="jos\udce9")
    assert "is ignored until" in commands("health", "disk-used", "--ignore", "1h").out
    assert "Frozen until" in commands("freeze").out
    audited = things["whimbrel_audit"].distinct("who")
    assert [who.partition("@")[0] for who in audited] == ["jos\\udce9"]


def test_freezes_are_loaded_from_a_file_all_or_none(
    commands: Commands, store: MongoStore, things: Docs, tmp_path: Path
) -> None:
    good = [
        {"from": "2099-12-20T00:00:00Z", "until": "2100-01-02T00:00:00+01:00", "note": "peak season"},
        {"from": "2099-03-01T00:00:00Z", "to": "2099-03-02T00:00:00Z"},
    ]
    file = tmp_path / "freezes.json"
    file.write_text(json.dumps(good))
    assert "2 freezes added." in commands("freeze", "--file", "freezes.json").out
    assert "there already" in commands("freeze", "--file", "freezes.json").out
    assert [each.note for each in store.ledger.freezes.look().freezes] == ["", "peak season"]
    for bad, why in (
        ("nothing", "is no JSON"),
        ("[]", "has no freezes"),
        ({"from": "2099-01-01T00:00:00Z"}, "has no freezes"),
        ([{"from": "2099-01-01T00:00:00Z"}], "entry 3 needs `from` and `until`"),
        ([{"from": "2020-01-01T00:00:00Z", "until": "2020-01-02T00:00:00Z"}], "entry 3 is over already"),
        (
            [{"from": "2099-01-02T00:00:00Z", "until": "2099-01-01T00:00:00Z"}],
            "entry 3 would end before it begins",
        ),
        ([{"from": "2099-01-02T00:00:00", "until": "2099-01-03T00:00:00Z"}], "says no offset"),
        ([{"from": "soon", "until": "2099-01-03T00:00:00Z"}], "from 'soon' is no time"),
        ([{"from": "2099-01-01T00:00:00Z", "until": "2099-01-02T00:00:00Z", "why": "x"}], "has 'why'"),
        ([{"from": "2099-01-01T00:00:00Z", "until": 5}], "until 5 is no time"),
        (
            [{"from": "2099-01-01T00:00Z", "until": "2099-01-02T00:00Z", "note": "\ud800"}],
            "half a surrogate pair",
        ),
    ):
        others = [{**each, "note": "half"} for each in good]
        file.write_text(
            bad
            if isinstance(bad, str)
            else json.dumps(others + bad if isinstance(bad, list) and bad else bad)
        )
        assert why in one_line(commands("freeze", "--file", "freezes.json", code=64).err), bad
    assert "cannot be read" in commands("freeze", "--file", "none.json", code=64).err
    assert len(store.ledger.freezes.look().freezes) == 2, "nothing half done"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--until", "2020-01-01T00:00Z"], "is over already"),
        (["--from", "2020-01-01T00:00Z", "--until", "2020-01-02T00:00Z"], "is over already"),
        (["--from", "3h", "--until", "2h"], "would end before it begins"),
        (["--until", "never"], "--until never: give a time"),
        (["--note", "x" * 501], "up to 500 characters"),
        (["--file", "a.json", "--note", "x"], "or --file alone"),
        (["--list", "--until", "2h"], "or --list alone"),
    ],
)
def test_what_cannot_be_a_freeze_is_refused(
    commands: Commands, things: Docs, words: list[str], why: str
) -> None:
    assert why in one_line(commands("freeze", *words, code=64).err)
    assert "whimbrel_freezes" not in things.list_collection_names()


def test_windows_and_nice_of_a_run(commands: Commands, store: MongoStore, things: Docs) -> None:
    begins = datetime.now(UTC) + timedelta(hours=2)
    window = f"{begins:%H:%M}-{begins + timedelta(hours=1):%H:%M}"
    given = ["--window", window, "--window", "Fri 00:00-00:01 UTC share=0.2", "--nice", "3"]
    commands("run", "marking", "-y", "--detach", *given)
    run = store.ledger.runs.list()[0]
    assert run.windows == (f"{window} UTC", "Fri 00:00-00:01 UTC share=0.2")
    assert run.nice == 3
    said = one_line(commands("set", run.id, "--window", window, "--nice", "0").out)
    assert f"in its windows: {window} UTC; outside it waits" in said
    store.ledger.runs.move(run.id, RunStatus.RUNNING, who="test")
    found = store.ledger.runs.get(run.id)
    assert found is not None
    held = allowance(found, Circumstances(now=datetime.now(UTC)))
    store.ledger.runs.hold(run.id, held, held.explain(), waits=True)
    status = one_line(commands("status").out)
    assert "running, waits" in status
    assert f"{run.id}: Waits until " in status
    assert f"windows {window} UTC; outside it waits" in one_line(commands("status", run.id).out)
    told = json.loads(commands("status", run.id, "--json").out)[0]
    assert (told["state"], told["share"], told["windows"], told["nice"]) == (
        "waiting",
        0.0,
        [f"{window} UTC"],
        0,
    )
    assert [reason["signal"] for reason in told["reasons"]] == ["window"]
    assert "as fast as its workers can, priority" in commands("set", run.id, "--no-windows").out


def test_bad_windows_are_refused_before_anything_is_done(
    commands: Commands, store: MongoStore, things: Docs
) -> None:
    for words in (
        ["run", "marking", "-y"],
        ["rollback", "x"],
        ["cleanup", "x"],
        ["verify", "x"],
        ["set", "x"],
        ["schedule", "set", "x"],
    ):
        assert "window '25:00-06:00': 25:00 is no time" in one_line(
            commands(*words, "--window", "25:00-06:00", code=64).err
        )
    assert "give one of them" in commands("set", "x", "--window", "1:00-2:00", "--no-windows", code=64).err
    assert "100" in commands("run", "marking", "--nice", "101", code=64).err
    assert not store.ledger.runs.list()


def test_the_runs_of_a_schedule_have_its_windows(commands: Commands, store: MongoStore, things: Docs) -> None:
    words = ["schedule", "set", "nightly", "--migration", "marking", "--cron", "0 3 * * *"]
    told = json.loads(commands(*words, "--window", "22:00-6:00", "--nice", "2", "--json").out)
    assert (told["windows"], told["nice"]) == (["22:00-06:00 UTC"], 2)
    plan = store.ledger.schedules.get("nightly")
    assert plan is not None
    assert (plan.plan.windows, plan.plan.nice) == (("22:00-06:00 UTC",), 2)
    told = json.loads(commands("schedule", "set", "nightly", "--no-windows", "--json").out)
    assert (told["windows"], told["nice"]) == ([], 2)


def test_a_freeze_is_a_reason_by_the_servers_clock(store: MongoStore) -> None:
    """What a person reads and what a slot obeys is the same row."""
    look = store.ledger.freezes.look()
    store.ledger.freezes.replace([Freeze(id="one", begins=look.now, note="n")], seen=look.revision)
    again = store.ledger.freezes.look()
    assert (again.revision, again.freezes[0].note, again.freezes[0].begins) == (1, "n", look.now)
    assert not store.ledger.freezes.replace([], seen=0), "somebody else was faster"
