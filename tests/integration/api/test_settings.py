"""Settings of a run over HTTP."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed


def test_settings_are_changed_one_by_one(still: TestClient, database: Docs) -> None:
    seed(database, 10)
    started = still.post("/migrate", json={"maxDocsPerSecond": 500, "batchSize": 5})
    run = started.json()["migrationId"]
    told = still.patch(f"/migrate/settings/{run}", json={"priority": 7}).json()
    told.pop("timestamp")
    assert told == {
        "success": True, "migrationId": run, "batchSize": 5, "maxDocsPerSecond": 500, "priority": 7, "windows": [], "nice": 0,
        "follow": None, "maxFailures": None, "maxFailureRate": None, "maxNewCause": None,
    }  # fmt: skip
    told = still.patch(f"/migrate/settings/{run}", json={"batchSize": 50, "maxDocsPerSecond": None}).json()
    assert (told["batchSize"], told["maxDocsPerSecond"], told["priority"]) == (50, None, 7)
    row: Any = database["whimbrel_runs"].find_one({"_id": run})
    assert (row["batchSize"], row["rate"], row["priority"]) == (50, None, 7)
    audit = list(database["whimbrel_audit"].find({"what": "settings changed"}).sort("at", 1))
    assert [each["why"] for each in audit] == ["priority 7", "batchSize 50, rate None"]
    assert all(each["who"].startswith("api:") for each in audit)


def test_a_run_with_a_rate_completes(api: TestClient, database: Docs) -> None:
    seed(database, 300)
    run = ended(api, api.post("/migrate", json={"maxDocsPerSecond": 200}).json()["migrationId"])
    assert (run["status"], run["changed"]) == ("completed", 300)
    assert run["seconds"] >= 1.5
    again = api.patch(f"/migrate/settings/{run['migrationId']}", json={"priority": 1})
    assert (again.status_code, again.json()["code"]) == (409, "state_forbids")


@pytest.mark.parametrize(
    "body",
    [
        None, {}, [], {"batchSize": None}, {"priority": None}, {"batchSize": 0}, {"batchSize": "5"}, {"priority": 11},
        {"maxDocsPerSecond": 0}, {"maxDocsPerSecond": 10_000_001}, {"maxDocsPerSecond": 1.5}, {"maxDocsPerSecond": True},
        {"rate": 5}, {"follow": None}, {"follow": "no"},
    ],
)  # fmt: skip
def test_what_cannot_be_set(refusing: TestClient, refused: Docs, body: Any) -> None:
    seed(refused, 3)
    run = refusing.post("/migrate").json()["migrationId"]
    answer = refusing.patch(f"/migrate/settings/{run}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["details"]


def test_settings_of_no_run(still: TestClient) -> None:
    answer = still.patch("/migrate/settings/20990101-aaaaaa", json={"priority": 1})
    assert (answer.status_code, answer.json()["code"]) == (404, "run_unknown")
