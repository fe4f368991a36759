"""Runs that follow, over HTTP."""

from typing import Any

from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed
from tests.servers.serve import eventually


def test_a_run_follows_until_it_is_told_to_end(api: TestClient, database: Docs) -> None:
    seed(database, 20)
    run = api.post("/migrate", json={"follow": True}).json()["migrationId"]

    def seen() -> dict[str, Any]:
        found: dict[str, Any] = api.get(f"/migrate/status/{run}").json()["migration"]
        return found

    eventually(lambda: seen()["phase"] == "follow" and seen()["changed"] == 20)
    seed(database, 10)
    eventually(lambda: (seen()["follow"]["documents"], seen()["status"]) == (10, "running"))
    assert database["somemodels"].count_documents({"status": "success"}) == 30
    now = seen()["follow"]
    assert (now["wanted"], now["lost"]) == (True, 0)
    assert now["behindSeconds"] >= 0
    assert (
        f'whimbrel_run_follow_behind_seconds{{migration="some-model",run="{run}"}}'
        in api.get("/metrics").text
    )
    waiting = api.post("/migrate/process-all").json()
    if waiting["migrationId"] is not None:
        assert f"whimbrel set {run} --no-follow" in waiting["message"]
    told = api.patch(f"/migrate/settings/{run}", json={"follow": False}).json()
    assert told["follow"] is False
    over = ended(api, run)
    assert (over["status"], over["changed"], over["follow"]["behindSeconds"]) == ("completed", 30, None)


def test_what_can_be_asked_of_following(still: TestClient, database: Docs) -> None:
    seed(database, 3, status="success")
    follows = still.post("/migrate", json={"follow": True})
    assert follows.status_code == 202, "though nothing matches yet"
    run = follows.json()["migrationId"]
    assert still.get(f"/migrate/status/{run}").json()["migration"]["follow"] == {
        "wanted": True, "since": None, "behindSeconds": None, "documents": 0, "lost": 0,
    }  # fmt: skip
    waits = still.post("/migrate", json={"filters": {}, "follow": True}).json()
    assert f"Waits for run {run}" in waits["message"]
    assert f"whimbrel set {run} --no-follow" in waits["message"]
    seed(database, 3)
    plain = still.post("/migrate").json()["migrationId"]
    row = still.get(f"/migrate/status/{plain}").json()["migration"]
    assert row["follow"] is None
    for body, which in (({"follow": False}, plain), ({"follow": True}, plain)):
        refused = still.patch(f"/migrate/settings/{which}", json=body)
        assert (refused.status_code, refused.json()["code"]) == (409, "state_forbids")
    failed = still.post("/migrate", json={"filters": {"status": "failed"}, "follow": True})
    assert (failed.status_code, failed.json()["code"]) == (409, "collection_unsuitable")
    assert "cannot follow" in failed.json()["error"]
    assert still.post("/migrate", json={"follow": "yes"}).status_code == 422
