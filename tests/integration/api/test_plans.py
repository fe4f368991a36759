"""What rollback and cleanup would do, before there is one; and starts that are refused where it is not what was seen."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed
from whimbrel.engine.rehearsing.rollback_preview import preview_rollback


@pytest.fixture
def run(api: TestClient, database: Docs) -> str:
    """A run over 200 documents that kept before-images; the application has changed three of them since, in two ways."""
    seed(database, 200)
    started: str = api.post("/migrate", json={"undo": True}).json()["migrationId"]
    assert ended(api, started)["changed"] == 200
    ids = [row["_id"] for row in database["somemodels"].find({}, {"_id": 1}).sort("_id", 1).limit(4)]
    database["somemodels"].update_many({"_id": {"$in": ids[:2]}}, {"$set": {"status": "archived"}})
    database["somemodels"].update_one({"_id": ids[2]}, {"$set": {"data": "new"}})
    database["somemodels"].update_one({"_id": ids[3]}, {"$set": {"of the application": 1}})
    return started


def seen(plan: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {name: plan[name] for name in ("documents", "collection", "host")} | changed


def test_a_rollback_is_shown_before_it_is_done(api: TestClient, database: Docs, run: str) -> None:
    plan = api.get(f"/migrate/rollback/{run}").json()
    assert (plan["documents"], plan["exact"], plan["examined"], plan["leftAlone"]) == (200, True, 200, 3)
    assert [(row["reason"], row["documents"]) for row in plan["reasons"]] == [
        ("changed since: status", 2), ("changed since: data", 1),
    ]  # fmt: skip
    assert plan["collection"] == f"{database.name}.somemodels"
    path = f"/migrate/rollback/{run}"
    for odd in (seen(plan, collection="a.b"), seen(plan, host="elsewhere:1"), seen(plan, documents=50)):
        refused = api.post(path, json={"confirm": run, "seen": odd})
        assert (refused.status_code, refused.json()["code"]) == (409, "not_as_seen"), refused.text
    back = api.post(path, json={"confirm": run, "seen": seen(plan)})
    assert back.status_code == 202, back.text
    done = ended(api, back.json()["migrationId"])
    assert (done["changed"], done["conflicts"]) == (197, 3), "what the plan has said"
    left = api.get(path).json()
    assert (left["documents"], left["leftAlone"]) == (3, 3), (
        "a second rollback finds what the first left alone"
    )


def test_where_there_is_no_time_a_sample_tells(api: TestClient, run: str) -> None:
    store = api.app.state.system.deployment.store  # type: ignore[attr-defined]
    found = preview_rollback(store, run, seconds=0)
    assert not found.exact
    assert 0 < found.examined <= 200
    assert found.left <= 3


def test_a_cleanup_says_what_is_lost(api: TestClient, run: str) -> None:
    plan = api.get(f"/migrate/cleanup/{run}").json()
    assert (plan["documents"], plan["exact"], plan["undoLost"], plan["marksLost"]) == (200, True, True, False)
    assert plan["bytes"] > 200 * 50
    refused = api.post(f"/migrate/cleanup/{run}", json={"confirm": run, "seen": seen(plan, documents=10)})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_as_seen")
    done = api.post(f"/migrate/cleanup/{run}", json={"confirm": run, "seen": seen(plan)})
    assert done.status_code == 202, done.text
    ended(api, done.json()["migrationId"])
    again = api.get(f"/migrate/rollback/{run}")
    assert (again.status_code, "has removed its before-images" in again.text) == (409, True)


def test_a_run_is_not_started_over_more_than_was_seen(still: TestClient, database: Docs) -> None:
    seed(database, 300)
    plan = still.post("/migrate", json={"dryRun": True}).json()
    assert (plan["totalDocuments"], plan["collection"]) == (300, f"{database.name}.somemodels")
    was = {"documents": 300, "collection": plan["collection"], "host": plan["host"]}
    seed(database, 150)
    refused = still.post("/migrate", json={"seen": was})
    assert (refused.status_code, refused.json()["code"]) == (409, "not_as_seen")
    assert "450 documents now, and not 300" in refused.json()["error"]
    assert still.get("/migrate").json()["count"] == 0
    assert still.post("/migrate", json={"seen": {**was, "documents": 450}}).status_code == 202
    assert still.post("/migrate", json={"seen": {"documents": 450}}).status_code == 422
