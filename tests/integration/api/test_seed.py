"""Samples over HTTP: put in, watched, counted, cleared; and nothing else is touched."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, ended, seed, serving
from tests.servers.serve import eventually
from whimbrel.api.app import create_app
from whimbrel.api.deployment import System
from whimbrel.api.routes import seed as routes
from whimbrel.domain.runs.states import RunStatus
from whimbrel.mongo.seeding import MongoSamples
from whimbrel.settings import Settings
from whimbrel.workers.worker_pool import WorkerPool

CONFIRM = {"confirm": "DELETE_ALL_DATA"}


def documents_of(database: Docs) -> list[dict[str, Any]]:
    return list(database["somemodels"].find({}, {"_id": 0}).sort("email", 1))


def test_samples_by_default(still: TestClient, database: Docs) -> None:
    answer = still.post("/seed/some-model")
    stats = answer.json()["stats"]
    assert (answer.status_code, stats["state"], stats["documentsInserted"]) == (201, "done", 1000)
    assert stats["collection"] == f"{database.name}.somemodels"
    assert stats["durationSeconds"] > 0
    assert stats["documentsPerSecond"] == pytest.approx(1000 / stats["durationSeconds"], rel=0.05)
    assert database["somemodels"].count_documents({}) == 1000
    assert set(database["somemodels"].distinct("status")) == {"pending", "processing", "success", "failed"}
    assert "status_1__id_1" in database["somemodels"].index_information()


def test_the_same_seed_gives_the_same_documents(still: TestClient, database: Docs) -> None:
    first = still.post("/seed/some-model", json={"count": 300, "invalidRatio": 0.2}).json()["stats"]
    before = documents_of(database)
    again = {"count": 300, "invalidRatio": 0.2, "seed": first["seed"], "clearExisting": True, "batchSize": 7}
    assert still.post("/seed/some-model", json=again).json()["stats"]["documentsInserted"] == 300
    assert documents_of(database) == before
    assert 20 < sum(isinstance(each["data"], str) for each in before) < 110
    other = again | {"seed": first["seed"] + 1}
    still.post("/seed/some-model", json=other)
    assert documents_of(database) != before


@pytest.mark.parametrize("status", ["pending", "processing", "success", "failed"])
def test_one_status_by_path(still: TestClient, database: Docs, status: str) -> None:
    answer = still.post("/seed/bulk/40", json={"status": status, "batchSize": 9})
    assert (answer.status_code, answer.json()["stats"]["documentsInserted"]) == (201, 40)
    assert database["somemodels"].count_documents({"status": status}) == 40


def test_seeded_samples_are_migrated(api: TestClient) -> None:
    api.post("/seed/bulk/200", json={"status": "pending", "invalidRatio": 0.1, "seed": 3})
    run = ended(api, api.post("/migrate").json()["migrationId"])
    assert (run["status"], run["succeeded"] + run["failed"]) == ("completed_with_failures", 200)
    assert 5 < run["failed"] < 50
    stats = api.get("/seed/stats").json()["someModel"]
    assert stats["byStatus"] == {"success": run["succeeded"], "failed": run["failed"]}


def test_a_long_one_goes_on_behind_its_answer(
    still: TestClient, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "LONG", 500)
    slow(monkeypatch)
    answer = still.post("/seed/bulk/2000", json={"batchSize": 100})
    assert (answer.status_code, answer.json()["stats"]["state"]) == (202, "running")
    assert answer.json()["stats"]["documentsRequested"] == 2000
    second = still.post("/seed/some-model", json={"count": 1})
    assert (second.status_code, second.json()["code"]) == (409, "seeding_runs")
    seen = []
    while (going := still.get("/seed/stats").json()["seeding"])["state"] == "running":
        seen.append(going["documentsInserted"])
        time.sleep(0.02)
    assert (going["state"], going["documentsInserted"], going["error"]) == ("done", 2000, None)
    assert seen == sorted(seen)
    assert any(0 < each < 2000 for each in seen)
    assert database["somemodels"].count_documents({}) == 2000
    assert still.post("/seed/some-model", json={"count": 1}).status_code == 201


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block takes a while more."""
    insert = MongoSamples._insert

    def slowly(self: MongoSamples, block: list[dict[str, Any]]) -> int:
        time.sleep(0.05)
        return insert(self, block)

    monkeypatch.setattr(MongoSamples, "_insert", slowly)


def test_the_end_of_the_process_stops_a_long_one(
    settings: Settings, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch)
    with serving(settings, workers=0) as client:
        assert client.post("/seed/bulk/9000000", json={"batchSize": 100}).status_code == 202
        eventually(lambda: client.get("/seed/stats").json()["seeding"]["documentsInserted"] > 0)
        began = time.monotonic()
    assert time.monotonic() - began < 60  # the whole would take more than an hour
    there = database["somemodels"].count_documents({})
    time.sleep(0.3)
    assert database["somemodels"].count_documents({}) == there


def test_clearing_stops_a_long_one(
    still: TestClient, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch)
    assert still.post("/seed/bulk/9000000", json={"batchSize": 100}).status_code == 202
    eventually(lambda: still.get("/seed/stats").json()["seeding"]["documentsInserted"] > 0)
    assert still.request("DELETE", "/seed/clear", json=CONFIRM).json()["documentsDeleted"] > 0
    assert database["somemodels"].count_documents({}) == 0
    going = still.get("/seed/stats").json()["seeding"]
    assert going["state"] == "stopped"
    assert 0 < going["documentsInserted"] < 9_000_000


def test_clearing_stops_one_that_is_waited_for(
    still: TestClient, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow(monkeypatch)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(still.post, "/seed/bulk/90000", json={"batchSize": 100})
        eventually(lambda: database["somemodels"].estimated_document_count() > 0)
        assert still.request("DELETE", "/seed/clear", json=CONFIRM).status_code == 200
        answer = waiting.result()
    assert (answer.status_code, answer.json()["code"]) == (409, "seeding_stopped")
    assert database["somemodels"].count_documents({}) == 0


def test_what_mongodb_refuses_is_said(
    still: TestClient, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.create_collection("somemodels", validator={"data": {"$type": "object"}})
    refused = still.post("/seed/some-model", json={"invalidRatio": 1})
    assert (refused.status_code, refused.json()["code"]) == (422, "refused")
    assert "Document failed validation" in refused.json()["error"]
    assert still.get("/seed/stats").json()["seeding"]["state"] == "failed"
    monkeypatch.setattr(routes, "LONG", 10)
    assert still.post("/seed/bulk/20", json={"invalidRatio": 1}).status_code == 202
    eventually(lambda: still.get("/seed/stats").json()["seeding"]["state"] == "failed")
    going = still.get("/seed/stats").json()["seeding"]
    assert "Document failed validation" in going["error"]
    assert going["documentsInserted"] == 0


def test_sample_runs_are_seen_and_left_alone(api: TestClient, database: Docs) -> None:
    answer = api.post("/seed/job-status", json={"count": 25, "seed": 5})
    stats = answer.json()["stats"]
    assert (answer.status_code, stats["documentsInserted"]) == (201, 25)
    assert stats["collection"] == f"{database.name}.whimbrel_runs"
    rows = {name: list(database[f"whimbrel_{name}"].find()) for name in ("runs", "batches", "failures")}
    runs = api.get("/migrate").json()["migrations"]
    assert len({run["migrationId"] for run in runs}) == 25
    states = {"completed", "completed_with_failures", "paused", "cancelled", "failed"}
    assert {run["status"] for run in runs} == states
    assert all(run["migration"].endswith("(sample)") for run in runs)
    for run in runs:
        assert (run["status"] == "completed_with_failures") == (run["failed"] > 0)
        assert run["processedItems"] == 1000 * run["completedBatches"]
        assert (run["progress"] == 100.0) == run["status"].startswith("completed")
    found = api.get("/seed/stats").json()["jobStatus"]
    assert (found["total"], found["byStatus"]) == (25, dict.fromkeys(states, 5))
    database["somemodels"].insert_one({"status": "pending", "data": {}})
    assert (
        ended(api, api.post("/migrate").json()["migrationId"])["status"] == "completed"
    )  # all have had their turn
    for name, before in rows.items():
        assert list(database[f"whimbrel_{name}"].find({"sample": True})) == before
    assert not [row for row in rows["runs"] if row["active"]]


@pytest.mark.parametrize("status", ["paused", "failed"])
def test_a_sample_run_cannot_be_resumed(still: TestClient, status: str) -> None:
    still.post("/seed/job-status", json={"count": 10})
    run = still.get("/migrate", params={"status": status}).json()["migrations"][0]
    answer = still.post(f"/migrate/resume/{run['migrationId']}")
    assert (answer.status_code, answer.json()["code"]) == (404, "migration_unknown")
    assert still.get(f"/migrate/status/{run['migrationId']}").json()["migration"]["status"] == status


def test_a_sample_run_can_be_cancelled_and_cleared(still: TestClient, database: Docs) -> None:
    still.post("/seed/job-status", json={"count": 10})
    run = still.get("/migrate", params={"status": "paused"}).json()["migrations"][0]["migrationId"]
    assert still.delete(f"/migrate/cancel/{run}").status_code == 200
    eventually(lambda: still.get(f"/migrate/status/{run}").json()["migration"]["status"] == "cancelled")
    assert still.request("DELETE", "/seed/clear", json=CONFIRM).json()["runsDeleted"] == 10
    assert database["whimbrel_runs"].count_documents({}) == 0


def test_sample_runs_are_the_same_for_the_same_seed(still: TestClient) -> None:
    told = []
    for _ in range(2):
        still.post("/seed/job-status", json={"count": 20, "seed": 9})
        runs = still.get("/migrate").json()["migrations"]
        told.append([(run["status"], run["migration"], run["changed"], run["priority"]) for run in runs])
        still.request("DELETE", "/seed/clear", json=CONFIRM)
    assert told[0] == told[1]


def test_all(still: TestClient, database: Docs, monkeypatch: pytest.MonkeyPatch) -> None:
    told = still.post("/seed/all", json={"someModelCount": 30, "jobStatusCount": 5}).json()
    assert (told["someModel"]["documentsInserted"], told["jobStatus"]["documentsInserted"]) == (30, 5)
    again = {"someModelCount": 20, "jobStatusCount": 3, "clearExisting": True, "batchSize": 10}
    assert still.post("/seed/all", json=again).status_code == 201
    found = still.get("/seed/stats").json()
    assert (found["someModel"]["total"], found["jobStatus"]["total"]) == (20, 3)
    monkeypatch.setattr(routes, "LONG", 10)
    assert still.post("/seed/all", json={"someModelCount": 50, "jobStatusCount": 2}).status_code == 202
    eventually(lambda: still.get("/seed/stats").json()["seeding"]["state"] == "done")
    found = still.get("/seed/stats").json()
    assert (found["someModel"]["total"], found["jobStatus"]["total"]) == (70, 5)
    assert still.post("/seed/all").json()["someModel"]["documentsRequested"] == 1000


def test_stats_that_take_too_long_to_count(
    still: TestClient, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = still.get("/seed/stats").json()
    assert (empty["someModel"]["total"], empty["someModel"]["byStatus"], empty["seeding"]) == (0, {}, None)
    database["somemodels"].insert_many([{"status": "odd"}, {"status": ["pending"]}, {}, {"status": "failed"}])
    assert still.get("/seed/stats").json()["someModel"]["byStatus"] == {"other": 3, "failed": 1}
    database["somemodels"].insert_many([{"status": "pending"} for _ in range(40_000)])
    monkeypatch.setattr(routes, "COUNTING", 0.001)
    found = still.get("/seed/stats").json()["someModel"]
    assert (found["total"], found["exact"], found["byStatus"]) == (40_004, False, None)


@pytest.mark.parametrize("where", ["body", "query"])
def test_clearing_takes_samples_only(still: TestClient, database: Docs, where: str) -> None:
    seed(database, 10, status="success")
    still.post("/seed/job-status", json={"count": 10})
    database["somemodels"].insert_one({"status": "pending", "data": {}})
    real = still.post("/migrate").json()["migrationId"]
    still.delete(f"/migrate/cancel/{real}")
    eventually(lambda: still.get(f"/migrate/status/{real}").json()["migration"]["status"] == "cancelled")
    database["others"].insert_one({"theirs": True})
    database["whimbrel_failures"].insert_one({"run": real, "state": "resolved", "key": {"_id": 1}})
    asked: dict[str, Any] = {"json": CONFIRM} if where == "body" else {"params": CONFIRM}
    answer = still.request("DELETE", "/seed/clear", **asked)
    assert (answer.status_code, answer.json()["documentsDeleted"], answer.json()["runsDeleted"]) == (
        200,
        11,
        10,
    )
    assert [run["migrationId"] for run in still.get("/migrate").json()["migrations"]] == [real]
    assert database["others"].count_documents({}) == 1
    assert database["somemodels"].count_documents({}) == 0
    assert "status_1__id_1" in database["somemodels"].index_information()
    for name in ("runs", "batches", "failures"):
        assert database[f"whimbrel_{name}"].count_documents({"sample": True}) == 0
    assert database["whimbrel_failures"].count_documents({"run": real}) == 1
    again = still.request("DELETE", "/seed/clear", json=CONFIRM).json()
    assert (again["documentsDeleted"], again["runsDeleted"]) == (0, 0)
    assert still.post("/migrate").json()["message"] == "Nothing matches: no run was started."


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"json": {}},
        {"json": {"confirm": "delete_all_data"}},
        {"json": {"confirm": None}},
        {"params": {"confirm": "yes"}},
    ],
)
def test_clearing_wants_to_be_confirmed(still: TestClient, database: Docs, asked: dict[str, Any]) -> None:
    seed(database, 3)
    answer = still.request("DELETE", "/seed/clear", **asked)
    assert (answer.status_code, answer.json()["code"]) == (400, "confirmation_missing")
    assert database["somemodels"].count_documents({}) == 3


def test_nothing_is_deleted_under_a_run(still: TestClient, database: Docs) -> None:
    seed(database, 30)
    run = still.post("/migrate").json()["migrationId"]
    eventually(lambda: still.get(f"/migrate/status/{run}").json()["migration"]["status"] == "running")
    for answer in (
        still.request("DELETE", "/seed/clear", json=CONFIRM),
        still.post("/seed/some-model", json={"clearExisting": True}),
        still.post("/seed/all", json={"clearExisting": True}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "collection_busy")
        assert f"DELETE /migrate/cancel/{run}" in answer.json()["error"]
    assert database["somemodels"].count_documents({}) == 30
    assert still.post("/seed/some-model", json={"count": 5}).status_code == 201  # more may come


def test_the_guide(still: TestClient, database: Docs) -> None:
    told = still.get("/seed/docs").json()
    assert told["links"]["docs"] == "/docs"
    described = still.get("/openapi.json").json()["paths"]
    for each in told["requests"]:
        path = each["path"].replace("/1000000", "/{count}")
        assert each["method"].lower() in described[path]
        assert set(each["answers"]) <= set(described[path][each["method"].lower()]["responses"])
    for each in told["requests"]:
        if each["method"] == "POST" and each["path"] != "/migrate":
            path = each["path"].replace("1000000", "10")
            small = {"count": 5, "someModelCount": 5, "jobStatusCount": 5}
            body = {name: small.get(name, value) for name, value in each["body"].items()}
            assert still.post(path, json=body).status_code == 201


def test_every_field_is_described(still: TestClient) -> None:
    schemas = still.get("/openapi.json").json()["components"]["schemas"]
    ours = [
        name
        for name in schemas
        if name.startswith(("Seed", "Sample", "AllSeeded", "Database", "Document", "Driver"))
    ]
    assert len(ours) > 15
    for name in ours:
        for field, each in schemas[name].get("properties", {}).items():
            assert each.get("description") or field == "success", f"{name}.{field}"
            if "$ref" not in str(each) and field != "success":
                assert "examples" in each, f"{name}.{field}"


BAD = [
    {"count": 0}, {"count": -5}, {"count": 10_000_001}, {"count": "5"}, {"count": 1.5}, {"count": True}, {"batchSize": 0},
    {"batchSize": 5001}, {"status": "odd"}, {"invalidRatio": 1.1}, {"invalidRatio": -0.1}, {"invalidRatio": "0.5"}, {"seed": "1"},
    {"seed": -1}, {"seed": 2**63}, {"clearExisting": "yes"}, {"counts": 5},
]  # fmt: skip


@pytest.mark.parametrize("body", BAD)
def test_bad_fields(refusing: TestClient, refused: Docs, body: dict[str, Any]) -> None:
    answer = refusing.post("/seed/some-model", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert answer.json()["details"][0]["field"] == f"body.{next(iter(body))}"
    assert "somemodels" not in refused.list_collection_names()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("bulk/0", None),
        ("bulk/10000001", None),
        ("bulk/abc", None),
        ("bulk/5", {"count": 5}),
        ("job-status", {"count": 10_001}),
        ("job-status", {"count": 0}),
        ("job-status", {"seed": 1.5}),
        ("all", {"someModelCount": 0}),
        ("all", {"jobStatusCount": 10_001}),
        ("all", {"batchSize": 5001}),
        ("all", {"count": 5}),
    ],
)
def test_bad_requests(refusing: TestClient, path: str, body: Any) -> None:
    answer = refusing.post(f"/seed/{path}", json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["success"]) == (422, "invalid", False)


@pytest.mark.parametrize("path", ["some-model", "bulk/5", "job-status", "all"])
def test_bad_bodies(refusing: TestClient, path: str) -> None:
    json = {"content-type": "application/json"}
    for content, headers, status in (
        (b"{", json, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b'"' + b"a" * 2_000_000 + b'"', json, 413),
    ):
        answer = refusing.post(f"/seed/{path}", content=content, headers=headers)
        assert (answer.status_code, answer.json()["success"]) == (status, False)


def test_before_mongodb_is_there(settings: Settings) -> None:
    away = settings.model_copy(
        update={"mongodb_uri": "mongodb://127.0.0.1:1/", "whimbrel_connect_seconds": 0.3}
    )
    system = System(away, WorkerPool(workers=1, slots=1, source=None), workers=False)
    with TestClient(
        create_app(system, ()), base_url="http://localhost", raise_server_exceptions=False
    ) as client:
        assert client.get("/seed/docs").status_code == 200
        for method, path in (
            ("POST", "some-model"),
            ("POST", "bulk/5"),
            ("POST", "job-status"),
            ("POST", "all"),
            ("GET", "stats"),
            ("DELETE", "clear"),
        ):
            answer = client.request(method, f"/seed/{path}")
            assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")


def test_scopes_and_the_audit(settings: Settings, database: Docs) -> None:
    tokens = ",".join(f"{scope}={scope}:{token}" for scope, token in TOKENS.items())
    with serving(settings, workers=0, tokens=tokens) as client:

        def ask(method: str, path: str, scope: str | None, body: Any = None) -> int:
            headers = {"authorization": f"Bearer {TOKENS[scope]}"} if scope else {}
            return int(client.request(method, f"/seed/{path}", headers=headers, json=body).status_code)

        posts = ("some-model", "bulk/5", "job-status", "all")
        for path in (*posts, "clear"):
            assert ask("DELETE" if path == "clear" else "POST", path, None) == 401
            assert ask("DELETE" if path == "clear" else "POST", path, "read") == 403
        assert (ask("GET", "stats", None), ask("GET", "docs", None)) == (401, 401)
        assert (ask("GET", "stats", "read"), ask("GET", "docs", "read")) == (200, 200)
        assert [ask("POST", path, "operate") for path in posts] == [201] * 4
        assert ask("DELETE", "clear", "operate", CONFIRM) == 403
        assert ask("POST", "some-model", "operate", {"clearExisting": True}) == 403
        assert ask("POST", "all", "operate", {"clearExisting": True}) == 403
        assert ask("POST", "some-model", "admin", {"clearExisting": True, "seed": 7}) == 201
        assert ask("DELETE", "clear", "admin", CONFIRM) == 200
    told = [
        (row["what"], row["who"].partition("@")[0], row["why"]) for row in database["whimbrel_audit"].find()
    ]
    assert [what for what, _, _ in told].count("sample runs seeded") == 2
    assert ("samples seeded", "api:admin", "1000 documents by seed 7, the others cleared") in told
    assert ("samples cleared", "api:admin", "") in told
    assert {who for what, who, _ in told if what == "sample runs seeded"} == {"api:operate"}


def test_sample_runs_are_in_states_that_nobody_attends_to() -> None:
    from whimbrel.engine.coordinating.coordinator import ATTENDED  # noqa: PLC0415
    from whimbrel.samples.runs import RESTING  # noqa: PLC0415

    assert not set(ATTENDED) & set(RESTING)
    assert set(ATTENDED) | set(RESTING) == set(RunStatus)
