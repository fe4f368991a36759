"""The scheduler over HTTP and by commands."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import SHORT
from tests.integration.api.conftest import TOKENS, Docs, seed, serving
from tests.servers.serve import eventually
from whimbrel.api.deployment import System
from whimbrel.domain.migrations.catalog import Catalog, choose
from whimbrel.engine.operating.scheduler import Scheduler
from whimbrel.engine.operating.start import Defaults
from whimbrel.mongo.store import MongoStore
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.settings import Settings

BASE = "/migrate/scheduler"
BODY: dict[str, Any] = {"migration": "some-model", "cron": "0 3 * * *", "zone": "Europe/Berlin"}
Cli = Callable[..., subprocess.CompletedProcess[str]]


def tick(store: MongoStore, name: str) -> None:
    """Let a schedule's tick come now, and be decided: by a scheduler of this test, or by the server's own."""
    at = (store.ledger.schedules.now() - timedelta(seconds=1)).replace(microsecond=0)
    store.client[store.database]["whimbrel_schedules"].update_one({"_id": name}, {"$set": {"nextAt": at}})
    scheduler = Scheduler(
        store, partial(choose, Catalog({SOME_MODEL.name: SOME_MODEL.definition})), name="tester", role_seconds=SHORT.lease,
        defaults=Defaults(), first=Settings().first_schedule, step=lambda _: None,
    )  # fmt: skip
    scheduler._holds_role = lambda: True  # type: ignore[method-assign]
    scheduler.tick()
    eventually(lambda: _decided(store, name, at))


def _decided(store: MongoStore, name: str, at: datetime) -> bool:
    found = store.ledger.schedules.get(name)
    return found is not None and found.last_at == at and found.pending is None


def test_a_fresh_scheduler_has_a_default_schedule_that_is_not_enabled(still: TestClient) -> None:
    told = still.get(f"{BASE}/status").json()
    [default] = told["schedules"]
    assert (default["name"], default["migration"], default["enabled"]) == ("default", "some-model", False)
    assert {key: told[key] for key in ("success", "enabled", "switchedOn", "cron", "zone", "nextRun", "lastRun", "history")} == {
        "success": True, "enabled": False, "switchedOn": True, "cron": "*/1 * * * *", "zone": "UTC",
        "nextRun": None, "lastRun": None, "history": [],
    }  # fmt: skip


def test_the_environment_enables_and_sets_the_default_schedule(settings: Settings) -> None:
    ours = settings.model_copy(update={"enable_scheduler": True, "cron_schedule": "*/7 * * * *"})
    with serving(ours, workers=0) as client:
        told = client.get(f"{BASE}/status").json()
    assert (told["enabled"], told["cron"]) == (True, "*/7 * * * *")
    assert told["nextRun"] == told["schedules"][0]["nextRun"] is not None
    with serving(settings, workers=0) as client:  # what is kept wins over the environment of a later start
        assert client.get(f"{BASE}/status").json()["enabled"] is True


def test_the_environment_of_a_later_start_enables_it_or_says_why_not(settings: Settings) -> None:
    later = settings.model_copy(update={"enable_scheduler": True, "cron_schedule": "0 3 * * *"})
    with serving(settings, workers=0) as client:
        told = client.get(f"{BASE}/status").json()
        assert (told["enabled"], told["note"]) == (False, "")
    with serving(later, workers=0) as client:
        system: System = client.app.state.system  # type: ignore[attr-defined]

        def told_by(of: Settings, *calls: tuple[str, str]) -> dict[str, Any]:
            system.settings = settings
            for method, path in calls:
                body = {**BODY, "enabled": False} if method == "PUT" else None
                assert client.request(method, f"{BASE}/{path}", json=body).status_code == 200
            system.settings = of
            found: dict[str, Any] = client.get(f"{BASE}/status").json()
            return found

        eventually(lambda: client.get(f"{BASE}/status").json()["enabled"])
        told = told_by(later)
        assert (told["cron"], told["note"]) == ("0 3 * * *", "")
        assert told["schedules"][0]["changedBy"] == "settings"
        told = told_by(later, ("POST", "stop"))
        assert (told["enabled"], told["switchedOn"]) == (False, False)
        assert re.search("api:anybody@.* stopped the scheduler at 20", told["note"])
        assert told_by(settings)["note"] == "", "where nobody wants it, there is nothing to say"
        assert told_by(later, ("POST", "start"))["note"] == ""
        told = told_by(later, ("PUT", "schedules/default"))
        assert (told["enabled"], "disabled the schedule 'default'" in told["note"]) == (False, True)
        assert "was removed" in told_by(later, ("DELETE", "schedules/default"))["note"]


def test_start_and_stop_outlive_the_process(settings: Settings) -> None:
    with serving(settings, workers=0) as client:
        told = client.post(f"{BASE}/start").json()
        assert (told["success"], told["enabled"], told["message"]) == (
            True,
            True,
            "The scheduler is started.",
        )
        assert client.post(f"{BASE}/start").json()["message"] == "The scheduler was started already."
        assert client.get(f"{BASE}/status").json()["enabled"] is True
        told = client.post(f"{BASE}/stop").json()
        assert (told["enabled"], told["message"]) == (
            False,
            "The scheduler is stopped. Runs that it started go on.",
        )
        assert client.post(f"{BASE}/stop").json()["message"].startswith("The scheduler was stopped already.")
    with serving(settings, workers=0) as client:
        told = client.get(f"{BASE}/status").json()
        assert (told["enabled"], told["switchedOn"], told["nextRun"]) == (False, False, None)


def test_schedules_are_made_changed_and_removed(still: TestClient) -> None:
    made = still.put(f"{BASE}/schedules/nightly", json=BODY)
    assert made.status_code == 200
    it = made.json()["schedule"]
    assert (it["name"], it["zone"], it["enabled"], it["priority"]) == ("nightly", "Europe/Berlin", True, 0)
    assert it["nextRun"] is not None
    assert it["madeBy"].startswith("api:anybody@")
    assert still.get(f"{BASE}/schedules/nightly").json()["schedule"] == it
    full = {
        **BODY, "enabled": False, "batchSize": 7, "priority": 9, "filters": {"n": {"$numberLong": "5"}},
    }  # fmt: skip
    changed = still.put(f"{BASE}/schedules/nightly", json=full).json()["schedule"]
    assert {key: changed[key] for key in full} == full
    assert changed["nextRun"] is None
    assert changed["madeAt"] == it["madeAt"]
    listed = still.get(f"{BASE}/schedules").json()
    assert (listed["count"], [each["name"] for each in listed["schedules"]]) == (2, ["default", "nightly"])
    assert still.delete(f"{BASE}/schedules/nightly").json()["schedule"]["name"] == "nightly"
    assert still.delete(f"{BASE}/schedules/nightly").status_code == 404
    assert still.delete(f"{BASE}/schedules/default").status_code == 200
    told = still.get(f"{BASE}/status").json()
    assert (told["cron"], told["zone"], told["schedules"]) == (None, None, [])
    assert "No schedule is enabled" in still.post(f"{BASE}/start").json()["message"]


def test_the_history_of_ticks(still: TestClient, store: MongoStore, database: Docs) -> None:
    seed(database, 20)
    still.put(f"{BASE}/schedules/nightly", json=BODY)
    tick(store, "nightly")
    tick(store, "nightly")
    told = still.get(f"{BASE}/status").json()
    [skipped, started] = told["history"]
    [run] = still.get("/migrate").json()["migrations"]
    assert (started["outcome"], started["schedule"], started["migrationId"]) == (
        "started",
        "nightly",
        run["migrationId"],
    )
    assert (skipped["outcome"], skipped["migrationId"]) == ("skipped", None)
    assert run["migrationId"] in skipped["reason"]
    assert told["lastRun"] == started
    assert run["totalItems"] >= 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cron": "61 * * * *"}, "body.cron"),
        ({"cron": "0 0 31 2 *"}, "body.cron"),
        ({"cron": None}, "body.cron"),
        ({"zone": "Europe/Berlinn"}, "body.zone"),
        ({"zone": "../../etc/passwd"}, "body.zone"),
        ({"enabled": "yes"}, "body.enabled"),
        ({"batchSize": 0}, "body.batchSize"),
        ({"batchSize": "5"}, "body.batchSize"),
        ({"batchSize": 5.5}, "body.batchSize"),
        ({"batchSize": True}, "body.batchSize"),
        ({"priority": 11}, "body.priority"),
        ({"odd": 1}, "body.odd"),
    ],
)
def test_fields_that_cannot_be_used_are_named(
    refusing: TestClient, changes: dict[str, Any], field: str
) -> None:
    answer = refusing.put(f"{BASE}/schedules/nightly", json={**BODY, **changes})
    told = answer.json()
    assert (answer.status_code, told["success"], told["code"]) == (422, False, "invalid")
    assert [each["field"] for each in told["details"]] == [field]
    assert refusing.get(f"{BASE}/schedules/nightly").status_code == 404


def test_the_fix_is_named_too(still: TestClient) -> None:
    told = still.put(f"{BASE}/schedules/x", json={**BODY, "cron": "* * *", "zone": "Europe/Berlinn"}).json()
    assert "Write minute, hour, day, month and weekday" in told["error"]
    assert "Did you mean 'Europe/Berlin'?" in told["error"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "schedules/gone", None, 404, "schedule_unknown"),
        ("DELETE", "schedules/gone", None, 404, "schedule_unknown"),
        ("GET", "schedules/$switch", None, 422, "invalid"),
        ("DELETE", "schedules/$switch", None, 422, "invalid"),
        ("PUT", "schedules/UPPER", BODY, 422, "invalid"),
        ("PUT", "schedules/x", None, 422, "invalid"),
        ("PUT", "schedules/x", {**BODY, "migration": "gone"}, 404, "migration_unknown"),
        ("PUT", "schedules/x", {**BODY, "filters": {"$where": "1"}}, 422, "filter_refused"),
        ("POST", "schedules/x", BODY, 405, "method_not_allowed"),
        ("GET", "start", None, 405, "method_not_allowed"),
    ],
)
def test_what_cannot_be_done(
    refusing: TestClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = refusing.request(method, f"{BASE}/{path}", json=body)
    assert (answer.status_code, answer.json()["success"], answer.json()["code"]) == (status, False, code)


def test_scopes(settings: Settings) -> None:
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    with serving(settings, workers=0, tokens=tokens) as client:

        def ask(method: str, path: str, scope: str) -> int:
            headers = {"authorization": f"Bearer {TOKENS[scope]}"}
            return int(client.request(method, f"{BASE}/{path}", headers=headers).status_code)

        for path in ("status", "schedules", "schedules/default"):
            assert ask("GET", path, "read") == 200
        for method, path in (("POST", "start"), ("POST", "stop"), ("DELETE", "schedules/default")):
            assert ask(method, path, "read") == 403
            assert ask(method, path, "operate") == 200


def test_every_field_of_an_answer_is_described(still: TestClient) -> None:
    parts = still.get("/openapi.json").json()["components"]["schemas"]
    for name in ("ScheduleOf", "TickOf"):
        for field, about in parts[name]["properties"].items():
            assert about.get("description") or about.get("enum"), (name, field)
            assert about.get("examples"), (name, field)


@pytest.fixture
def cli(mongo_uri: str, database: Docs, tmp_path: Path) -> Cli:
    """Run a command to its end, and check its exit code."""
    environment = {**os.environ, "MONGODB_URI": mongo_uri, "MONGODB_DB_NAME": database.name}

    def call(*arguments: str, code: int = 0, **changes: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "whimbrel.cli.main", "schedule", *arguments],
            env={**environment, **changes}, cwd=tmp_path,
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, done.stderr + done.stdout
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return call


def test_commands_make_change_show_and_remove_schedules(cli: Cli, still: TestClient, database: Docs) -> None:
    made = cli("set", "nightly", "--migration", "some-model", "--cron", " 0  3 * * *", "--priority", "7")
    assert "nightly" in made.stdout
    assert "0 3 * * *" in made.stdout
    changed = json.loads(
        cli("set", "nightly", "--zone", "Europe/Berlin", "--filter", '{"n": 1}', "--json").stdout
    )
    assert (changed["zone"], changed["priority"], changed["filters"]) == (
        "Europe/Berlin",
        7,
        {"n": {"$numberInt": "1"}},
    )
    assert still.get(f"{BASE}/schedules/nightly").json()["schedule"] == changed
    cleared = json.loads(cli("set", "nightly", "--disable", "--filter", "{}", "--json").stdout)
    assert (cleared["enabled"], cleared["filters"], cleared["cron"]) == (False, None, "0 3 * * *")
    assert [each["name"] for each in json.loads(cli("list", "--json").stdout)] == ["default", "nightly"]
    assert "nightly" in cli("list").stdout
    seed(database, 3)
    assert re.search(r"Run \d{8}-\w+ is started by schedule nightly", cli("run", "nightly").stdout)
    assert "nightly is removed" in cli("remove", "nightly").stdout
    assert "There are: default" in cli("remove", "nightly", code=66).stderr


def test_commands_start_stop_and_show_the_scheduler(cli: Cli, still: TestClient) -> None:
    told = json.loads(cli("start", "--json").stdout)
    assert (told["enabled"], told["schedules"][0]["enabled"]) == (True, True)
    assert "Turn it on: whimbrel schedule start" in cli("stop").stdout
    shown = cli("status").stdout
    assert "default" in shown
    assert "Start one: whimbrel worker" in shown or "It is " in shown
    ours = json.loads(cli("status", "--json").stdout)
    theirs = still.get(f"{BASE}/status").json()
    assert ours == {key: theirs[key] for key in ours}
    assert set(theirs) - set(ours) == {"success", "timestamp"}


def test_the_holder_of_the_role_is_named(still: TestClient, store: MongoStore) -> None:
    eventually(lambda: still.get(f"{BASE}/status").json()["holder"] or store.ledger.leases.lead("scheduler", "tester", 9))  # fmt: skip
    assert still.get(f"{BASE}/status").json()["holder"] == store.ledger.schedules.leader() is not None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["set", "x", "--cron", "* * * * *"], 64, "--migration NAME"),
        (["set", "x", "--migration", "some-model", "--cron", "nonsense"], 64, "Write minute"),
        (["set", "x", "--migration", "some-model", "--cron", "* * * * *", "--zone", "Mars"], 64, "zone 'Mars'"),
        (["set", "X!", "--migration", "some-model", "--cron", "* * * * *"], 64, "name 'X!'"),
        (["set", "x", "--migration", "gone", "--cron", "* * * * *"], 66, "no migration 'gone'"),
        (["set", "x", "--migration", "some-model", "--cron", "* * * * *", "--filter", "{"], 65, "not Extended JSON"),
        (["remove", "gone"], 66, "no schedule 'gone'"),
        (["nonsense"], 64, "nonsense"),
    ],
)  # fmt: skip
def test_commands_that_cannot_be_carried_out(cli: Cli, arguments: list[str], code: int, words: str) -> None:
    assert words in cli(*arguments, code=code).stderr


def test_a_bad_cron_in_the_environment_stops_every_command(cli: Cli) -> None:
    assert "CRON_SCHEDULE='61 " in cli("list", code=64, CRON_SCHEDULE="61 * * * *").stderr
    assert "Commands" in cli().stdout


def test_a_schedule_is_run_at_once(still: TestClient, database: Docs) -> None:
    """Also a disabled one; its ticks stay; not while its run before is at work; not where nothing matches."""
    path = f"{BASE}/schedules/nightly/run"
    assert still.post(path).status_code == 404
    still.put(f"{BASE}/schedules/nightly", json={**BODY, "enabled": False, "filters": {"status": "failed"}})
    seed(database, 3)
    nothing = still.post(path)
    assert (nothing.status_code, nothing.json()["migrationId"]) == (200, None)
    seed(database, 10, status="failed")
    begun = still.post(path).json()
    run = still.get(f"/migrate/status/{begun['migrationId']}").json()["migration"]
    assert (run["phase"], run["request"]["route"], run["totalItems"]) == ("failed", "schedule nightly", 0)
    told = still.get(f"{BASE}/status").json()
    [tick] = [each for each in told["history"] if each["schedule"] == "nightly"]
    assert (tick["outcome"], tick["migrationId"]) == ("started", begun["migrationId"])
    assert tick["reason"].startswith("By hand, by api:")
    again = still.post(path)
    assert (again.status_code, again.json()["code"]) == (409, "state_forbids")
    schedule = still.get(f"{BASE}/schedules/nightly").json()["schedule"]
    assert (schedule["enabled"], schedule["nextRun"], schedule["lastTick"]) == (False, None, None)
    assert schedule["lastMigrationId"] == begun["migrationId"]
    assert database["whimbrel_audit"].count_documents({"what": "schedule nightly run by hand"}) == 1
