"""On a stand-alone MongoDB, as the old system's own `.env` names one, everything works, and what is less safe there is said."""

from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.collection import Collection
from starlette.testclient import TestClient

from tests.integration.api.conftest import ended, serving
from tests.servers.alone import stand_alone
from tests.servers.serve import eventually
from whimbrel.api.openapi import operations
from whimbrel.settings import Settings


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with stand_alone() as found:
        yield found


def done(
    client: TestClient, path: str, body: dict[str, Any] | None = None, status: int = 202
) -> dict[str, Any]:
    """What a request is answered with."""
    answer = client.post(path, json=body or {})
    assert answer.status_code == status, (path, answer.text)
    found: dict[str, Any] = answer.json()
    return found


def completed(client: TestClient, told: dict[str, Any]) -> dict[str, Any]:
    """The run that a request has started, at its end."""
    run = ended(client, told["migrationId"])
    assert run["status"] == "completed", run
    return run


Samples = Collection[dict[str, Any]]


def test_everything_works_on_a_stand_alone_server(port: int) -> None:
    settings = Settings(
        mongodb_uri=f"mongodb://localhost:{port}", mongodb_db_name="old", retry_delay=20, api_rate="10000/minute", whimbrel_lease=3,
        whimbrel_grace=1, whimbrel_statement=0.9, whimbrel_sweep=0.2, whimbrel_idle_poll=0.05, rabbitmq_url=None,
    )  # fmt: skip
    with serving(settings, workers=1) as client, MongoClient[dict[str, Any]](settings.mongodb_uri) as mongo:
        samples = mongo["old"]["somemodels"]
        status = client.get("/db/status").json()
        assert (status["isConnected"], status["replicaSet"], status["primary"]) == (True, None, None)
        assert "stand-alone" in status["note"]
        done(client, "/seed/some-model", {"count": 300, "status": "pending"}, 201)
        done(client, "/seed/job-status", {"count": 10}, 201)
        ids = [each["_id"] for each in samples.find({}, {"_id": 1}).sort("_id", 1)]
        migrate_and_take_back(client, samples)
        migrate_parts(client, samples, ids)
        paused = pause_and_go_on(client)
        assert samples.count_documents({"status": "success"}) == 300
        everything_else(client, paused)


def migrate_and_take_back(client: TestClient, samples: Samples) -> None:
    before = {each["_id"]: each for each in samples.find()}
    told = done(client, "/migrate", {"dryRun": True}, 200)
    assert (told["totalDocuments"], "replica-set" in [each["check"] for each in told["warnings"]]) == (
        300,
        True,
    )

    key, body = {"Idempotency-Key": "one"}, {"undo": True, "batchSize": 50}
    first = client.post("/migrate", json=body, headers=key)
    assert client.post("/migrate", json=body, headers=key).json() == first.json()
    run = completed(client, first.json())
    assert (run["changed"], samples.count_documents({"status": "success"})) == (300, 300)
    assert "replica-set" in [each["check"] for each in run["warnings"]], "what is less safe there is said"

    report = completed(client, done(client, f"/migrate/verify/{run['migrationId']}", {"all": True}))["report"]
    assert [each["check"] for each in report if each["verdict"] == "fault"] == []
    confirm = {"confirm": run["migrationId"]}
    completed(client, done(client, f"/migrate/rollback/{run['migrationId']}", confirm))
    assert {each["_id"]: each for each in samples.find()} == before
    completed(client, done(client, f"/migrate/cleanup/{run['migrationId']}", confirm))


def migrate_parts(client: TestClient, samples: Samples, ids: list[Any]) -> None:
    bulk = completed(client, done(client, "/migrate/bulk", {"ids": [str(each) for each in ids[:20]]}))
    assert bulk["changed"] == 20
    assert client.get("/db/pending-count").json()["count"] == 280
    assert completed(client, done(client, "/migrate/batch/30"))["changed"] == 30
    samples.update_many({"_id": {"$in": ids[100:110]}}, {"$set": {"status": "failed"}})
    samples.update_many({"_id": {"$in": ids[110:120]}}, {"$set": {"status": "processing"}})
    assert completed(client, done(client, "/migrate/retry-failed"))["changed"] == 10
    assert done(client, "/migrate/reset-pending", {"from": ["failed"]})["complete"] is True
    recovery = done(client, "/migrate/create-missing-migrations", status=200)
    assert completed(client, recovery)["changed"] == 10
    done(client, "/migrate/fix-stuck-jobs", status=200)


def pause_and_go_on(client: TestClient) -> str:
    """The run that was paused, at its end."""
    run = str(done(client, "/migrate", {"batchSize": 20, "maxDocsPerSecond": 20})["migrationId"])

    def is_now(status: str) -> bool:
        return bool(client.get(f"/migrate/status/{run}").json()["migration"]["status"] == status)

    eventually(lambda: is_now("running"))
    done(client, f"/migrate/pause/{run}", status=200)
    eventually(lambda: is_now("paused"))
    assert client.patch(f"/migrate/settings/{run}", json={"maxDocsPerSecond": None}).status_code == 200
    done(client, f"/migrate/resume/{run}", status=200)
    completed(client, {"migrationId": run})
    return run


def everything_else(client: TestClient, run: str) -> None:
    # A worker process that has just stood still for some seconds counts as none.
    eventually(lambda: client.get("/queue/consumers/health").json().get("slots"))
    for path in (
        "/queue/test-publish", "/queue/test-batch", "/queue/consumers/restart", "/queue/retry-dlq", "/migrate/scheduler/start",
        "/migrate/scheduler/stop", "/queue/workers/reset-counter",
    ):  # fmt: skip
        done(client, path, status=200)
    for path, method, operation in operations(client.get("/openapi.json").json()):
        asks = any(each.get("required") and each["in"] == "query" for each in operation.get("parameters", []))
        if method == "GET" and not asks and "events" not in path and "stream" not in path:
            whole = (
                path.replace("{migrationId}", run).replace("{batch}", f"{run}.1")
                .replace("/ensure/{name}", "/ensure/some-model").replace("{name}", "default")
            )  # fmt: skip
            nothing_kept = path.startswith("/migrate/rollback/")  # the run was started without undo
            assert client.get(whole).status_code == (409 if nothing_kept else 200), whole
    assert client.delete("/queue/purge-all").status_code == 200
    assert client.delete("/seed/clear", params={"confirm": "DELETE_ALL_DATA"}).status_code == 200
