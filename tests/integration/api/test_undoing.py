"""Rollback and cleanup over HTTP."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, ended, seed, serving
from whimbrel.settings import Settings


def content(database: Docs) -> list[dict[str, Any]]:
    return list(database["somemodels"].find().sort("_id", 1))


def migrated(api: TestClient) -> str:
    """A run that kept before-images, at its end."""
    started = api.post("/migrate", json={"undo": True})
    run = ended(api, started.json()["migrationId"])
    assert (run["kind"], run["undo"], run["status"]) == ("migration", True, "completed")
    return str(run["migrationId"])


def test_a_run_is_rolled_back(both: TestClient, database: Docs) -> None:
    seed(database, 200)
    before = content(database)
    run = migrated(both)
    assert content(database) != before
    answer = both.post(f"/migrate/rollback/{run}", json={"confirm": run, "batchSize": 50, "priority": 7})
    assert (answer.status_code, answer.json()["message"]) == (202, "Started.")
    back = ended(both, answer.json()["migrationId"])
    assert (back["kind"], back["of"], back["changed"], back["batchSize"]) == ("rollback", run, 200, 50)
    assert content(database) == before
    assert both.get(f"/migrate/status/{run}").json()["migration"]["undoneBy"] == back["migrationId"]
    audit = database["whimbrel_audit"].find_one({"what": "run undone", "run": run})
    assert audit is not None
    assert audit["who"].startswith("api:")


def test_conflicts_are_listed(api: TestClient, database: Docs) -> None:
    seed(database, 20)
    run = migrated(api)
    database["somemodels"].update_one({}, {"$set": {"status": "archived"}})
    back = ended(api, api.post(f"/migrate/rollback/{run}", json={"confirm": run}).json()["migrationId"])
    assert (back["status"], back["conflicts"], back["changed"]) == ("completed_with_failures", 1, 19)
    groups = api.get(f"/migrate/failures/{back['migrationId']}").json()["groups"]
    assert [each["type"] for each in groups] == ["ChangedSince"]
    retried = api.post(f"/migrate/failures/{back['migrationId']}/retry")
    assert (retried.status_code, retried.json()["reopened"]) == (202, 1)
    assert ended(api, back["migrationId"])["conflicts"] == 1
    assert api.post("/queue/retry-dlq").json()["retriedCount"] == 0


def test_a_cleanup_says_what_it_removes(api: TestClient, database: Docs) -> None:
    seed(database, 100)
    run = migrated(api)
    answer = api.post(f"/migrate/cleanup/{run}", json={"confirm": run})
    told = answer.json()
    assert (answer.status_code, told["documents"], told["exact"]) == (202, 100, True)
    assert told["bytes"] > 100 * 100
    assert ended(api, told["migrationId"])["kind"] == "cleanup"
    assert not database["somemodels"].count_documents({"_whimbrel": {"$exists": True}})


@pytest.mark.parametrize("route", ["rollback", "cleanup"])
def test_what_is_refused(api: TestClient, database: Docs, route: str) -> None:
    seed(database, 10)
    run = migrated(api)
    now = content(database)

    def refused(run_id: str, body: Any) -> tuple[int, str]:
        answer = api.post(f"/migrate/{route}/{run_id}", json=body)
        return answer.status_code, answer.json()["code"]

    assert refused(run, {}) == (400, "confirmation_missing")
    assert refused(run, {"confirm": "DELETE_ALL_DATA"}) == (400, "confirmation_missing")
    assert refused(run, {"confirm": 5}) == (422, "invalid")
    assert refused(run, {"confirm": run, "odd": 1}) == (422, "invalid")
    assert refused("20990101-aaaaaa", {"confirm": "20990101-aaaaaa"}) == (404, "run_unknown")
    database["somemodels"].update_many({}, {"$set": {"status": "pending"}})
    waiting = api.post("/migrate", json={"maxDocsPerSecond": 1}).json()["migrationId"]
    assert refused(waiting, {"confirm": waiting}) == (409, "state_forbids")
    api.delete(f"/migrate/cancel/{waiting}")
    ended(api, waiting)
    if route == "rollback":
        assert refused(waiting, {"confirm": waiting}) == (409, "state_forbids")  # it kept no images
    assert len(content(database)) == len(now)
    runs = api.app.state.system.deployment.store.ledger.runs  # type: ignore[attr-defined]
    assert [run.kind for run in runs.list()] == ["migration"] * 2


def test_undo_needs_an_admin(settings: Settings, database: Docs) -> None:
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    with serving(settings, workers=0, tokens=tokens) as client:
        for route in ("rollback", "cleanup"):
            answer = client.post(
                f"/migrate/{route}/x",
                json={"confirm": "x"},
                headers={"Authorization": f"Bearer {TOKENS['operate']}"},
            )
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_what_cannot_be_undone_does_not_start(still: TestClient, database: Docs) -> None:
    seed(database, 3)
    answer = still.post("/migrate", json={"undo": "yes"})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert still.get("/migrate").json()["count"] == 0
