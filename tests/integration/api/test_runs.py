"""Starting, watching and stopping runs over HTTP."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, ended, seed, serving
from tests.servers.serve import eventually
from whimbrel.settings import Settings


def test_a_client_of_the_old_api_migrates_its_samples(both: TestClient, database: Docs) -> None:
    seed(database, 300)
    answer = both.post("/migrate")  # a bare POST, as the old README shows it
    assert answer.status_code == 202
    told = answer.json()
    assert (told["success"], told["totalDocuments"], told["estimatedBatches"]) == (True, 300, 1)
    run = ended(both, told["migrationId"])
    assert (run["status"], run["succeeded"], run["failed"], run["progress"]) == ("completed", 300, 0, 100.0)
    assert database["somemodels"].count_documents({"status": "success", "data.processed": True}) == 300
    jobs = both.get("/migrate/jobs", params={"parentJobId": run["migrationId"]}).json()["jobs"]
    assert sum(each["batch"]["outcomes"]["changed"] for each in jobs) == 300
    batch = both.get(f"/migrate/batch/{jobs[0]['batch']['batchId']}").json()["batch"]
    assert (batch["parentJobId"], batch["status"], batch["processedItems"]) == (
        run["migrationId"],
        "done",
        300,
    )
    assert (batch["completedChunks"], batch["totalChunks"]) == (1, 1)
    row = both.get("/migrate").json()["migrations"][0]
    assert row == {
        name: value for name, value in run.items() if name not in ("update", "report", "warnings", "phases")
    }


def test_nothing_that_matches_is_no_run(still: TestClient, database: Docs) -> None:
    seed(database, 10, status="success")
    answer = still.post("/migrate")
    assert (answer.status_code, answer.json()["totalDocuments"], answer.json()["migrationId"]) == (
        200,
        0,
        None,
    )
    assert still.get("/migrate").json()["count"] == 0


def test_a_filter_selects_what_find_selects(still: TestClient, database: Docs) -> None:
    names, turned = ("admin", "root", "ann"), {"$id": 1, "$ref": "c"}
    things = database["somemodels"]
    things.insert_many(
        {"_id": at, "name": each, "of": turned, "status": "pending"} for at, each in enumerate(names)
    )
    things.insert_one({"_id": 3, "name": "bea", "of": {"$ref": "c", "$id": 1}, "status": "pending"})
    for filters in (
        {"name": {"$regex": "n$", "$nin": ["admin"]}},
        {"of": turned, "name": {"$options": "i", "$regex": "^ANN$"}},
    ):
        told = still.post("/migrate", json={"filters": filters, "dryRun": True}).json()
        assert (told["totalDocuments"], told["plan"]["filters"]) == (1, filters)
        assert (
            [each["id"] for each in told["plan"]["diffs"]]
            == [each["_id"] for each in things.find(filters)]
            == [2]
        )
    told = still.post("/migrate", json={"filters": filters}).json()
    shown = still.get(f"/migrate/status/{told['migrationId']}").json()["migration"]["filters"]
    assert shown == filters
    assert list(shown["of"]) == ["$id", "$ref"]


def test_a_dry_run_counts_and_writes_nothing(still: TestClient, database: Docs) -> None:
    seed(database, 25)
    before = {name: list(database[name].find()) for name in database.list_collection_names()}
    answer = still.post("/migrate", json={"dryRun": True, "batchSize": 10})
    assert answer.status_code == 200
    assert (answer.json()["totalDocuments"], answer.json()["estimatedBatches"]) == (25, 3)
    after = {name: list(database[name].find()) for name in database.list_collection_names()}
    moving = {"whimbrel_leases", "whimbrel_workers", "whimbrel_schedules"}
    assert {k: v for k, v in after.items() if k not in moving} == {
        k: v for k, v in before.items() if k not in moving
    }


@pytest.mark.parametrize(
    ("path", "phase", "changed"),
    [("retry-failed", "failed", 4), ("complete-processing", "processing", 3), ("process-all", None, 9)],
)
def test_runs_over_phases(
    api: TestClient, database: Docs, path: str, phase: str | None, changed: int
) -> None:
    seed(database, 2)
    seed(database, 3, status="processing")
    seed(database, 4, status="failed")
    told = api.post(f"/migrate/{path}", json={"batchSize": 100}).json()
    assert told["totalDocuments"] == changed
    run = ended(api, told["migrationId"])
    assert (run["status"], run["changed"]) == ("completed", changed)
    if phase:
        assert database["somemodels"].count_documents({"status": phase}) == 0


def test_one_batch_of_a_size(api: TestClient, database: Docs) -> None:
    seed(database, 50)
    run = ended(api, api.post("/migrate/batch/20").json()["migrationId"])
    assert (run["status"], run["changed"]) == ("completed", 20)
    assert database["somemodels"].count_documents({"status": "pending"}) == 30


def test_pause_resume_cancel(still: TestClient, database: Docs) -> None:
    seed(database, 50)
    first = still.post("/migrate").json()["migrationId"]
    eventually(lambda: still.get(f"/migrate/status/{first}").json()["migration"]["status"] == "running")
    second = still.post("/migrate").json()
    assert f"Waits for run {first}" in second["message"]
    assert still.post("/migrate", json={"exclusive": True}).status_code == 409
    assert still.post(f"/migrate/pause/{first}").status_code == 200
    eventually(lambda: still.get(f"/migrate/status/{first}").json()["migration"]["status"] == "paused")
    assert still.post(f"/migrate/resume/{first}").status_code == 200
    assert still.delete(f"/migrate/cancel/{first}").status_code == 200
    eventually(lambda: still.get(f"/migrate/status/{first}").json()["migration"]["status"] == "cancelled")
    again = still.delete(f"/migrate/cancel/{first}")
    assert (again.status_code, again.json()["code"]) == (409, "state_forbids")
    assert still.post(f"/migrate/resume/{first}").status_code == 409


def test_runs_are_listed_by_pages(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    ids = [still.post("/migrate").json()["migrationId"] for _ in range(5)]
    found: list[str] = []
    cursor = None
    for _ in range(4):
        page = still.get("/migrate", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        found += [each["migrationId"] for each in page["migrations"]]
        cursor = page["nextCursor"]
        if cursor is None:
            break
    assert found == ids[::-1]
    assert still.get("/migrate", params={"status": "completed"}).json()["count"] == 0


def test_progress_comes_as_events(api: TestClient, database: Docs) -> None:
    seed(database, 200)
    run = api.post("/migrate").json()["migrationId"]
    with api.stream("GET", f"/migrate/events/{run}") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        text = "".join(stream.iter_text())
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    last = json.loads(text.strip().splitlines()[-1].removeprefix("data: "))
    assert kinds[-1] == "end"
    assert (last["status"], last["changed"]) == ("completed", 200)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/migrate/status/20990101-aaaaaa", None, 404, "run_unknown"),
        ("DELETE", "/migrate/cancel/20990101-aaaaaa", None, 404, "run_unknown"),
        ("GET", "/migrate/batch/nothing.1", None, 404, "batch_unknown"),
        ("GET", "/migrate/jobs?jobType=batch", None, 422, "invalid"),
        ("GET", "/migrate/jobs?status=odd", None, 422, "invalid"),
        ("GET", "/migrate?limit=0", None, 422, "invalid"),
        ("GET", "/migrate?limit=abc", None, 422, "invalid"),
        ("POST", "/migrate", {"migration": "some-modle"}, 404, "migration_unknown"),
        ("POST", "/migrate", {"filters": {"$where": "1"}}, 422, "filter_refused"),
        (
            "POST",
            "/migrate",
            {"filters": {"$or": [{"a": 1}, {"b": [{"$where": "1"}]}]}},
            422,
            "filter_refused",
        ),
        ("POST", "/migrate", {"filters": []}, 422, "invalid"),
        ("POST", "/migrate", {"batchSize": 0}, 422, "invalid"),
        ("POST", "/migrate", {"batchSize": -5}, 422, "invalid"),
        ("POST", "/migrate", {"batchSize": "abc"}, 422, "invalid"),
        ("POST", "/migrate", {"batchSize": "5"}, 422, "invalid"),
        ("POST", "/migrate", {"batchSize": 1e9}, 422, "invalid"),
        ("POST", "/migrate", {"batchSize": 1.5}, 422, "invalid"),
        ("POST", "/migrate", {"priority": 11}, 422, "invalid"),
        ("POST", "/migrate", {"batchsize": 5}, 422, "invalid"),
        ("POST", "/migrate/batch/0", None, 422, "invalid"),
        ("POST", "/migrate", [], 422, "invalid"),
        ("GET", "/nowhere", None, 404, "not_found"),
        ("PUT", "/migrate", None, 405, "method_not_allowed"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_envelope(
    refusing: TestClient, refused: Docs, method: str, path: str, body: Any, status: int, code: str
) -> None:
    seed(refused, 3)
    answer = refusing.request(method, path, json=body)
    told = answer.json()
    assert (answer.status_code, told["success"], told["code"]) == (status, False, code)
    assert told["error"].strip().endswith((".", "?"))
    assert refusing.get("/migrate").json()["count"] == 0


def test_all_bad_fields_are_named_at_once(still: TestClient) -> None:
    told = still.post("/migrate", json={"batchSize": 0, "priority": 99, "dryRun": "yes", "odd": 1}).json()
    assert {each["field"] for each in told["details"]} == {
        "body.batchSize",
        "body.priority",
        "body.dryRun",
        "body.odd",
    }


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"\xff\xfe{}", "application/json", 400),
        (b"[" * 10_000 + b"]" * 10_000, "application/json", 400),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "application/json", 400),
        (b'{"batchSize": 5}', "text/plain", 415),
        (b'{"batchSize": 5}', "application/x-www-form-urlencoded", 415),
        (b'{"x": "' + b"a" * 2_000_000 + b'"}', "application/json", 413),
    ],
)
def test_bodies_that_are_no_json(refusing: TestClient, content: bytes, kind: str, status: int) -> None:
    answer = refusing.post("/migrate", content=content, headers={"content-type": kind})
    assert answer.status_code == status
    assert answer.json()["success"] is False
    assert refusing.get("/health/live").status_code == 200


def test_scopes(settings: Settings, database: Docs) -> None:
    seed(database, 3)
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    with serving(settings, workers=0, tokens=tokens) as client:

        def ask(method: str, path: str, token: str | None) -> int:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return int(client.request(method, path, headers=headers).status_code)

        assert ask("GET", "/migrate", None) == 401
        assert ask("GET", "/migrate", "x" * 20) == 401
        assert ask("GET", "/migrate", TOKENS["read"]) == 200
        assert ask("POST", "/migrate", TOKENS["read"]) == 403
        assert ask("POST", "/migrate", TOKENS["operate"]) == 202
        assert ask("GET", "/health", None) == 200


def test_filters_are_told_as_they_were_sent(still: TestClient, database: Docs) -> None:
    """Values that JSON does not have come back as Extended JSON."""
    seed(database, 5)
    filters = {
        "createdAt": {"$lt": {"$date": "2999-01-01T00:00:00Z"}}, "name": {"$not": {"$regularExpression": {"pattern": "^q", "options": "i"}}},
        "_id": {"$ne": {"$oid": "6b05a6b4917552bd0c2fea18"}}, "data.score": {"$gte": {"$numberDecimal": "0"}},
    }  # fmt: skip
    started = still.post("/migrate", json={"filters": filters})
    assert started.status_code == 202
    run = still.get(f"/migrate/status/{started.json()['migrationId']}")
    assert run.json()["migration"]["filters"] == filters
    assert still.get("/migrate").json()["migrations"][0]["filters"] == filters


def test_a_dry_run_shows_what_a_run_would_do(still: TestClient, database: Docs) -> None:
    seed(database, 25)
    database["somemodels"].update_one({}, {"$set": {"data": "text"}})
    answer = still.post(
        "/migrate", json={"dryRun": True, "batchSize": 10}, headers={"Idempotency-Key": "dry"}
    )
    plan = answer.json()["plan"]
    assert plan["selected"] == {
        "documents": 25, "estimated": 25, "how": "counted", "index": "status_1__id_1",
    }  # fmt: skip
    assert (plan["batches"], plan["outcomes"]["changed"], plan["sample"]["documents"]) == (3, 24, 25)
    [group] = plan["failures"]
    assert (group["kind"], group["documents"]) == ("data", 1)
    changes = {each["path"]: each for each in plan["diffs"][0]["changes"]}
    assert (changes["status"]["old"], changes["status"]["new"]) == ("pending", "success")
    assert changes["data.processed"] == {
        "kind": "added", "path": "data.processed", "old": None, "new": True, "order": [],
    }  # fmt: skip
    assert plan["deterministic"]["holds"] is False
    assert plan["predicted"]["seconds"]["value"] >= 0
    assert database["whimbrel_answers"].count_documents({}) == 0
    assert database["whimbrel_audit"].count_documents({}) == 0
    assert still.get("/migrate").json()["count"] == 0


def test_the_other_starts_can_be_dry_too(still: TestClient, database: Docs) -> None:
    seed(database, 9)
    for path in ("process-all", "batch/5", "retry-failed"):
        plan = still.post(f"/migrate/{path}", json={"dryRun": True}).json()["plan"]
        assert plan["selected"]["documents"] == {"process-all": 9, "batch/5": 5, "retry-failed": 0}[path]
    assert still.post("/migrate", json={"migration": "some-model"}).json()["plan"] is None
