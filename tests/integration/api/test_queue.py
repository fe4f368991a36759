"""The queue over HTTP, with either broker."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, ended, seed, serving
from tests.servers.rabbit import RabbitNode
from tests.servers.serve import eventually
from whimbrel.settings import Settings

PROCESSING, PRIORITY, RETRY, DEAD = (
    "app.processing.queue",
    "app.priority.queue",
    "app.retry.queue",
    "app.deadletter.queue",
)


@pytest.fixture
def rabbit(settings: Settings, node: RabbitNode, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With RabbitMQ, of which worker processes learn from their environment."""
    monkeypatch.setenv("RABBITMQ_URL", node.url)
    return settings.model_copy(update={"rabbitmq_url": node.url})


@pytest.fixture(params=["ledger", "rabbitmq"])
def both(request: pytest.FixtureRequest, settings: Settings) -> Iterator[TestClient]:
    """With a worker process, once with each broker."""
    chosen = settings if request.param == "ledger" else request.getfixturevalue("rabbit")
    with serving(chosen, workers=1) as client:
        yield client


def broker_of(client: TestClient) -> str:
    return str(client.get("/queue/stats").json()["broker"])


def depth(client: TestClient, queue: str = PROCESSING) -> int:
    return int(client.get("/queue/stats").json()["queues"][queue]["messageCount"])


def alive(client: TestClient) -> None:
    """A worker is there, and has loaded what it serves."""
    eventually(lambda: client.get("/queue/consumers/health").json().get("slots"))


def stopped(client: TestClient, database: Docs) -> None:
    """All consumers, and every process has seen it: it looks before each sign of life, so between the next two."""
    alive(client)
    assert client.post("/queue/consumers/stop").status_code == 200

    def told_after(moment: Any) -> None:
        eventually(lambda: not database["whimbrel_workers"].count_documents({"seenAt": {"$lte": moment}}))

    for _ in range(2):
        told_after(database.command("hello")["localTime"])


def started(client: TestClient, count: int, size: int, **more: Any) -> str:
    answer = client.post("/migrate", json={"batchSize": size, **more})
    assert (answer.status_code, answer.json()["totalDocuments"]) == (202, count)
    return str(answer.json()["migrationId"])


def done(client: TestClient, run: str) -> int:
    return int(client.get(f"/migrate/status/{run}").json()["migration"]["completedBatches"])


def test_stats_while_nothing_is_taken(both: TestClient, database: Docs) -> None:
    seed(database, 50)
    stopped(both, database)
    started(both, 50, 10)
    least = {"ledger": 5, "rabbitmq": 3}[broker_of(both)]  # stopped slots keep a pointer each
    eventually(lambda: depth(both) >= least)
    told = both.get("/queue/stats").json()
    assert set(told["queues"]) == {PROCESSING, PRIORITY, RETRY, DEAD}
    assert told["total"]["messages"] == sum(each["messageCount"] for each in told["queues"].values())
    counted = {"ledger": (2, 2), "rabbitmq": (1, 3)}[told["broker"]]
    assert (told["queues"][PROCESSING]["consumerCount"], told["total"]["consumers"]) == counted
    assert told["queues"][DEAD] == {"messageCount": 0, "unacked": 0, "consumerCount": 0}
    assert told["queues"][PROCESSING]["unacked"] == 0  # by the ledger: nobody works on a batch


def test_urgent_batches_and_retries_have_lanes_of_their_own(still: TestClient, database: Docs) -> None:
    seed(database, 30)
    started(still, 30, 10, priority=9)
    eventually(lambda: depth(still, PRIORITY) == 3)
    assert depth(still) == 0


def test_health(both: TestClient) -> None:
    answer = both.get("/queue/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["consumers"]) == (200, "OK", "started")
    both.post("/queue/consumers/stop")
    answer = both.get("/queue/health")
    assert (answer.status_code, answer.json()["consumers"]) == (200, "stopped")


def test_a_broker_that_is_away_is_said(rabbit: Settings, node: RabbitNode) -> None:
    with serving(rabbit, workers=0) as client:
        node.stop()
        try:
            eventually(lambda: client.get("/queue/health").status_code == 503)
            told = client.get("/queue/health").json()
            assert (told["status"], told["broker"]) == ("ERROR", "rabbitmq")
            for method, path in (
                ("GET", "/queue/stats"),
                ("POST", "/queue/test-publish"),
                ("DELETE", f"/queue/purge/{PROCESSING}"),
                ("DELETE", "/queue/purge-all"),
            ):
                answer = client.request(method, path)
                told = answer.json()
                assert (answer.status_code, told["success"], told["code"]) == (
                    503,
                    False,
                    "broker_unavailable",
                ), path
        finally:
            node.start()
        eventually(lambda: client.get("/queue/health").status_code == 200)
        assert client.post("/queue/test-publish").status_code == 200


def test_consumers_are_those_of_the_cluster(both: TestClient, database: Docs) -> None:

    def seen() -> tuple[Any, ...]:
        status = both.get("/queue/consumer-status").json()
        health = both.get("/queue/consumers/health").json()
        return (
            *(status[name] for name in ("alive", "slots", "inHand", "consumers")),
            *(health.get(name) for name in ("status", "alive", "slots")),
        )

    # A process that stands still for some seconds does not count as alive until it is heard of again.
    eventually(lambda: seen() == (1, 2, 0, "started", "OK", 1, 2))
    [worker] = eventually(lambda: both.get("/queue/consumer-status").json()["workers"])
    assert (worker["slots"], worker["batchesDone"], worker["current"], worker["refuses"]) == (2, 0, [], [])
    assert worker["pid"] in {each["pid"] for each in database["whimbrel_workers"].find()}
    [same] = eventually(lambda: both.get("/queue/consumers/status").json()["workers"])
    assert same["name"] == worker["name"]


def test_no_consumers(still: TestClient) -> None:
    answer = still.get("/queue/consumers/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["alive"]) == (503, "ERROR", 0)
    assert still.get("/queue/consumer-status").json()["workers"] == []


@pytest.mark.parametrize("path", ["test-publish", "test/publish"])
def test_a_message_there_and_back(both: TestClient, database: Docs, path: str) -> None:
    answer = both.post(f"/queue/{path}")
    assert answer.status_code == 200
    assert 0 < answer.json()["roundTripMs"] < 5000
    assert all(each.startswith("whimbrel_") for each in database.list_collection_names())
    assert database["whimbrel_leases"].count_documents({"_id": {"$regex": "^probe:"}}) == 0
    assert set(both.get("/queue/stats").json()["queues"]) == {PROCESSING, PRIORITY, RETRY, DEAD}


def test_the_queue_of_a_trial_does_not_stay(rabbit: Settings, node: RabbitNode) -> None:
    with serving(rabbit, workers=0) as client:
        for _ in range(5):
            assert client.post("/queue/test-publish").status_code == 200
        eventually(lambda: set(node.queues()) == {PROCESSING, PRIORITY, RETRY, DEAD})


@pytest.mark.parametrize("body", [None, {"count": 40}])
def test_sample_documents_go_through(both: TestClient, database: Docs, body: Any) -> None:
    seed(database, 10)
    for _ in range(2):  # once more, where its worker stands still just then
        alive(both)
        answer = both.post("/queue/test-batch", json=body)
        told = answer.json()
        if told.get("code") != "no_workers":
            break
    assert answer.status_code == 200, told
    assert (told["count"], told["workers"]) == ((body or {"count": 5})["count"], 1)
    assert told["totalMs"] >= told["migratedMs"] > 0
    run = ended(both, told["migrationId"])
    assert (run["status"], run["changed"]) == ("completed", told["count"])
    assert database["somemodels"].count_documents({}) == 10
    assert database["somemodels"].count_documents({"status": "pending"}) == 10


def test_no_trial_without_workers_or_against_a_run(still: TestClient, database: Docs) -> None:
    answer = still.post("/queue/test-batch")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_workers")
    assert "somemodels" not in database.list_collection_names()


def test_no_trial_while_consumers_are_stopped_or_the_collection_is_busy(
    api: TestClient, database: Docs
) -> None:
    seed(database, 20)
    stopped(api, database)
    answer = api.post("/queue/test-batch")
    assert (answer.status_code, answer.json()["code"]) == (409, "consumers_stopped")
    run = started(api, 20, 5)
    eventually(lambda: depth(api) == 4)
    database["whimbrel_leases"].update_one({"_id": "switch:consumers"}, {"$set": {"off": False}})
    answer = api.post("/queue/test-batch")
    assert answer.status_code in (200, 409)
    if answer.status_code == 409:
        assert answer.json()["code"] == "collection_busy"
    ended(api, run)
    assert database["somemodels"].count_documents({}) == 20


def test_a_trial_that_takes_too_long_is_cancelled(
    api: TestClient, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whimbrel.api.test_batch.LONGEST", 0.0)
    alive(api)
    answer = api.post("/queue/test-batch")
    assert (answer.status_code, answer.json()["code"]) == (503, "trial_timed_out")
    run = api.get("/migrate").json()["migrations"][0]
    assert run["migrationId"] in answer.json()["error"]
    assert run["status"] in ("cancelled", "completed")
    assert database["somemodels"].count_documents({}) == 0


def test_stopping_loses_nothing(both: TestClient, database: Docs) -> None:
    seed(database, 3000)  # for long enough: the numbers of a run may be half a second old
    alive(both)
    run = started(both, 3000, 10, maxDocsPerSecond=200)  # and a machine that stands still may be late to stop
    eventually(lambda: done(both, run) > 3)
    told = both.post("/queue/consumers/stop").json()
    assert (told["consumers"], told["changed"]) == ("stopped", True)
    assert both.post("/queue/consumers/stop").json()["changed"] is False
    eventually(lambda: both.get("/queue/consumer-status").json()["inHand"] == 0)

    def rests() -> bool:
        before = done(both, run)
        threading.Event().wait(1.5)
        return done(both, run) == before

    eventually(rests)
    assert done(both, run) < 300
    assert database["somemodels"].count_documents({"status": "success"}) < 3000
    answer = both.patch(f"/migrate/settings/{run}", json={"maxDocsPerSecond": None})
    assert answer.status_code == 200, answer.text
    assert both.post("/queue/consumers/start").json()["changed"] is True
    assert ended(both, run)["changed"] == 3000
    said = [
        each["what"] for each in database["whimbrel_audit"].find() if each["what"].startswith("consumers ")
    ]
    assert said == ["consumers stopped", "consumers started"]


def test_stopping_outlives_processes(rabbit: Settings, node: RabbitNode, database: Docs) -> None:
    """A pointer that stopped slots keep is not counted as delivered again and again."""
    seed(database, 40)
    with serving(rabbit, workers=1) as client:
        stopped(client, database)
        run = started(client, 40, 10)
        threading.Event().wait(3)
        assert done(client, run) == 0
    with serving(rabbit, workers=1) as client:
        alive(client)
        threading.Event().wait(2)
        assert done(client, run) == 0
        eventually(lambda: depth(client) > 0)
        counted = [each.headers.get("x-delivery-count", 0) for each in node.get_messages(PROCESSING)]
        assert max(counted) < 10
        client.post("/queue/consumers/start")
        assert ended(client, run)["changed"] == 40
        assert depth(client, DEAD) == 0


def test_restarting_drains(both: TestClient, database: Docs) -> None:
    seed(database, 300)
    alive(both)
    run = started(both, 300, 10)
    told = both.post("/queue/consumers/restart").json()
    assert (told["consumers"], told["drained"]) == ("started", True)
    assert ended(both, run)["changed"] == 300


def test_purging_in_mid_run(both: TestClient, database: Docs) -> None:
    seed(database, 400)
    stopped(both, database)
    run = started(both, 400, 10)
    eventually(lambda: depth(both) >= 10)
    told = both.delete(f"/queue/purge/{PROCESSING}").json()
    assert told["queue"] == PROCESSING
    assert (told["purgedMessages"] > 0) is (told["broker"] == "rabbitmq")
    assert both.delete("/queue/purge-all").json()["success"] is True
    both.post("/queue/consumers/start")
    eventually(lambda: done(both, run) > 2)
    both.delete("/queue/purge-all")
    assert ended(both, run)["changed"] == 400


def test_strangers_messages_are_purged(rabbit: Settings, node: RabbitNode) -> None:
    from tests.integration.brokers.test_rabbitmq import send  # noqa: PLC0415

    with serving(rabbit, workers=1) as client:
        for _ in range(3):
            send(node, b"no pointer")
        eventually(lambda: depth(client, DEAD) == 3)
        assert client.delete(f"/queue/purge/{DEAD}").json()["purgedMessages"] == 3
        eventually(lambda: depth(client, DEAD) == 0)
        found = client.delete("/queue/purge-all").json()
        assert {each["queue"] for each in found["queues"]} == {PROCESSING, PRIORITY, RETRY, DEAD}
        assert found["purgedMessages"] == 0


def fail(client: TestClient, database: Docs, bad: int, good: int = 5) -> str:
    """A run that has ended with dead failures."""
    database["somemodels"].drop()
    seed(database, good)
    seed(database, bad, invalid=1.0)
    run = started(client, good + bad, 100)
    assert ended(client, run)["status"] == "completed_with_failures"
    return run


def mend(database: Docs) -> None:
    database["somemodels"].update_many({"data": {"$type": "string"}}, {"$set": {"data": {}}})


def test_dead_failures_are_tried_again(api: TestClient, database: Docs) -> None:
    alive(api)
    run = fail(api, database, 4)
    few = api.post("/queue/retry-dlq", params={"limit": 3}).json()
    assert (few["retriedCount"], few["skipped"][0]["migrationId"], few["skipped"][0]["dead"]) == (0, run, 4)
    assert "4 dead failures" in few["skipped"][0]["reason"]
    mend(database)
    told = api.post("/queue/retry-dlq").json()
    assert (told["retriedCount"], told["migrations"], told["skipped"]) == (4, {run: 4}, [])
    eventually(lambda: database["somemodels"].count_documents({"status": "success"}) == 9)
    assert ended(api, run)["status"] == "completed"
    assert api.post("/queue/retry-dlq").json()["retriedCount"] == 0


def test_a_run_that_cannot_go_on_is_listed(api: TestClient, database: Docs) -> None:
    alive(api)
    run = fail(api, database, 2)
    database["whimbrel_runs"].update_one({"_id": run}, {"$set": {"migration": "another"}})
    told = api.post("/queue/retry-dlq").json()
    assert (told["retriedCount"], [each["migrationId"] for each in told["skipped"]]) == (0, [run])
    assert "not loaded" in told["skipped"][0]["reason"]


def test_monitoring_tells_depths_and_ages(both: TestClient, database: Docs) -> None:
    stopped(both, database)
    seed(database, 60)
    run = started(both, 60, 10)
    eventually(lambda: depth(both) >= 3)
    eventually(lambda: (both.get("/queue/monitoring").json()["current"]["oldestSeconds"] or 0) > 2)
    eventually(lambda: len(both.get("/queue/monitoring").json()["history"]) >= 3)  # by a thread of its own
    told = both.get("/queue/monitoring").json()
    assert told["current"] == told["history"][-1]
    assert told["history"] == sorted(told["history"], key=lambda each: str(each["at"]))
    assert told["current"]["depths"][PROCESSING] == told["current"]["messages"] >= 3
    assert told["current"]["batchesPerSecond"] == 0
    both.post("/queue/consumers/start")
    ended(both, run)
    eventually(lambda: both.get("/queue/monitoring").json()["current"]["oldestSeconds"] is None)
    batches = database["whimbrel_batches"].count_documents({"status": "done", "claims": {"$gt": 0}})
    assert batches > 0
    rate = round(batches / 60, 3)
    eventually(lambda: both.get("/queue/monitoring").json()["current"]["batchesPerSecond"] == rate)


def test_monitoring_comes_as_events(still: TestClient) -> None:
    """Without end, until the client is gone."""
    text: list[str] = []

    async def listen() -> None:
        over = asyncio.Event()
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await over.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            text.append(message.get("body", b"").decode())
            if sum(each.startswith("event: ") for each in text) == 3:
                over.set()

        scope = {
            "type": "http", "method": "GET", "path": "/queue/monitoring", "query_string": b"stream=true", "headers": [],
            "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "client": ("test", 1), "scheme": "http",
            "raw_path": b"/queue/monitoring", "root_path": "", "server": ("test", 80),
        }  # fmt: skip
        await still.app(scope, receive, send)

    asyncio.run(listen())
    events = [each.splitlines() for each in text if each.startswith("event: ")]
    assert [each[0] for each in events[:3]] == ["event: sample"] * 3
    samples = [json.loads(each[1].removeprefix("data: ")) for each in events]
    assert {each["messages"] for each in samples} == {0}
    assert len({each["at"] for each in samples}) >= 2


def test_monitoring_says_that_the_broker_is_away(rabbit: Settings, node: RabbitNode) -> None:
    with serving(rabbit, workers=0) as client:
        assert client.get("/queue/monitoring").status_code == 200
        node.stop()
        try:
            eventually(lambda: client.get("/queue/monitoring").status_code == 503)
            assert client.get("/queue/monitoring").json()["code"] == "broker_unavailable"
        finally:
            node.start()
        eventually(lambda: client.get("/queue/monitoring").status_code == 200)


def test_what_workers_have_done_is_counted_from_a_reset_on(api: TestClient, database: Docs) -> None:
    alive(api)
    assert api.get("/queue/workers/stats").json()["since"] is None
    fail(api, database, 3, good=20)
    settled = database["whimbrel_batches"].count_documents({"status": "done", "claims": {"$gt": 0}})

    def counted() -> dict[str, Any]:
        found: dict[str, Any] = api.get("/queue/workers/stats").json()
        return found

    eventually(lambda: counted()["processed"] == settled)
    assert (counted()["failed"], counted()["active"], len(counted()["workers"])) == (1, 0, 1)
    done_before = api.get("/queue/consumer-status").json()["workers"][0]["batchesDone"]
    assert api.post("/queue/workers/reset-counter").json()["workers"] == 1
    assert (counted()["processed"], counted()["failed"]) == (0, 0)
    assert counted()["since"] is not None
    assert api.get("/queue/consumer-status").json()["workers"][0]["batchesDone"] == done_before
    seed(database, 10)
    ended(api, started(api, 10, 10))
    eventually(lambda: counted()["processed"] > 0)
    assert counted()["failed"] == 0


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("DELETE", "/queue/purge/other", None, 404, "queue_unknown"),
        ("DELETE", "/queue/purge/app.processing.queue%2F..", None, 404, "not_found"),
        ("DELETE", "/queue/purge", None, 404, "not_found"),
        ("GET", "/queue/purge-all", None, 405, "method_not_allowed"),
        ("POST", "/queue/test-batch", {"count": 0}, 422, "invalid"),
        ("POST", "/queue/test-batch", {"count": 1001}, 422, "invalid"),
        ("POST", "/queue/test-batch", {"count": "5"}, 422, "invalid"),
        ("POST", "/queue/test-batch", {"number": 5}, 422, "invalid"),
        ("POST", "/queue/test-batch", [], 422, "invalid"),
        ("GET", "/queue/monitoring?stream=maybe", None, 422, "invalid"),
        ("POST", "/queue/retry-dlq?limit=0", None, 422, "invalid"),
        ("POST", "/queue/retry-dlq?limit=1001", None, 422, "invalid"),
        ("POST", "/queue/retry-dlq?limit=many", None, 422, "invalid"),
    ],
)
def test_what_cannot_be_done(
    refusing: TestClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    answer = refusing.request(method, path, json=body)
    told = answer.json()
    assert (answer.status_code, told["success"], told["code"]) == (status, False, code)


def test_scopes(settings: Settings) -> None:
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    needed = {
        "read": [
            ("GET", each)
            for each in (
                "stats",
                "health",
                "consumer-status",
                "consumers/status",
                "monitoring",
                "workers/stats",
            )
        ],
        "operate": [
            ("POST", each)
            for each in (
                "test-publish",
                "test/publish",
                "test-batch",
                "consumers/stop",
                "consumers/start",
                "retry-dlq",
                "workers/reset-counter",
            )
        ],
        "admin": [("DELETE", f"purge/{PROCESSING}"), ("DELETE", "purge-all")],
    }
    below = {"read": None, "operate": "read", "admin": "operate"}
    with serving(settings, workers=0, tokens=tokens) as client:
        for scope, routes in needed.items():
            for method, path in routes:
                less = below[scope]
                headers = {"authorization": f"Bearer {TOKENS[less]}"} if less else {}
                assert client.request(method, f"/queue/{path}", headers=headers).status_code == (
                    403 if less else 401
                ), path
                headers = {"authorization": f"Bearer {TOKENS[scope]}"}
                assert client.request(method, f"/queue/{path}", headers=headers).status_code not in (
                    401,
                    403,
                ), path


def test_every_field_is_described(still: TestClient) -> None:
    told = still.get("/openapi.json").json()
    schemas, seen = told["components"]["schemas"], set()

    def reach(part: Any) -> None:
        if isinstance(part, dict) and "$ref" in part:
            name = part["$ref"].rpartition("/")[2]
            if name not in seen:
                seen.add(name)
                reach(schemas[name])
        for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else []:
            reach(each)

    for path, operations in told["paths"].items():
        if path.startswith("/queue"):
            reach(operations)
            assert all(each["description"] for each in operations.values())
    assert {"QueueStats", "WorkerOf", "SampleOf", "Failure"} <= seen
    assert "HTTPValidationError" not in seen
    for name in seen:
        for field, schema in schemas[name]["properties"].items():
            assert "description" in schema or field == "success", (name, field)
            assert "examples" in schema or "$ref" in json.dumps(schema) or "const" in schema, (name, field)


def test_dead_letters_and_lost_workers_are_listed(still: TestClient, database: Docs) -> None:
    told = still.get("/queue/dead-letters").json()
    assert (told["failures"], told["runs"], told["complete"]) == (0, [], True)
    leases = still.app.state.system.deployment.store.ledger.leases  # type: ignore[attr-defined]
    facts = {
        "host": "h", "pid": 1, "version": "1", "slots": 2, "only": None, "code": [{"migration": "m", "hash": "abc"}], "done": 3,
        "inHand": [{"batch": "r.7", "since": None}], "refuses": [],
    }  # fmt: skip
    leases.beat("h:1:gone", **facts)
    database["whimbrel_workers"].update_one(
        {"_id": "h:1:gone"}, [{"$set": {"seenAt": {"$subtract": ["$$NOW", 60_000]}}}]
    )
    leases.beat("h:1:old", **facts)
    database["whimbrel_workers"].update_one(
        {"_id": "h:1:old"}, [{"$set": {"seenAt": {"$subtract": ["$$NOW", 3_700_000]}}}]
    )
    leases.beat("h:1:here", **facts)
    status = still.get("/queue/consumer-status").json()
    assert [row["name"] for row in status["workers"]] == ["h:1:here"]
    [lost] = status["lost"]
    assert (lost["name"], lost["code"], lost["current"]) == ("h:1:gone", {"m": "abc"}, [{"batchId": "r.7", "since": None}])  # fmt: skip
