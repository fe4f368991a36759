"""What holds for all routes: repeated requests, the audit, the documents, headers."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed, serving
from tests.servers.serve import eventually
from whimbrel.errors import Transient
from whimbrel.settings import Settings


def audit(database: Docs) -> list[tuple[str, str, str]]:
    return [
        (each["what"], each["who"], each["why"]) for each in database["whimbrel_audit"].find().sort("at", 1)
    ]


def test_a_request_that_is_sent_again_is_not_carried_out_again(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    key = {"Idempotency-Key": secrets.token_hex(8)}
    first = still.post("/migrate", json={"batchSize": 7}, headers=key)
    again = still.post("/migrate", json={"batchSize": 7}, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert still.get("/migrate").json()["count"] == 1
    other = still.post("/migrate", json={"batchSize": 8}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    assert still.post("/migrate", headers={"Idempotency-Key": "x" * 300}).status_code == 422
    assert still.post("/migrate", headers={"Idempotency-Key": "another"}).status_code == 202
    assert still.get("/migrate").json()["count"] == 2


def test_ten_at_once_with_one_key_start_one_run(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    key = {"Idempotency-Key": secrets.token_hex(8)}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: still.post("/migrate", headers=key).status_code, range(10)))
    assert set(answers) <= {202, 409}
    assert 202 in answers
    assert still.get("/migrate").json()["count"] == 1


def test_a_refused_request_is_answered_alike_again(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    key = {"Idempotency-Key": secrets.token_hex(8)}
    answers = [still.post("/migrate", json={"batchSize": 0}, headers=key) for _ in range(2)]
    assert [each.status_code for each in answers] == [422, 422]
    assert still.get("/migrate").json()["count"] == 0


def test_a_refusal_by_the_state_is_the_first_answer_too(still: TestClient, database: Docs) -> None:
    """What was refused once stays refused under its key, though by now it would be carried out."""
    seed(database, 5)
    run = still.post("/migrate").json()["migrationId"]
    status = f"/migrate/status/{run}"
    eventually(lambda: still.get(status).json()["migration"]["status"] == "running")
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/migrate", {"exclusive": True}),
        (f"/migrate/rollback/{run}", {"confirm": run}),
        (f"/migrate/failures/{run}/retry", {}),
        ("/migrate/reset-pending", {}),
        ("/migrate/resume/20990101-aaaaaa", {}),
    ]
    keys = [{"Idempotency-Key": secrets.token_hex(8)} for _ in asked]
    first = [still.post(path, json=body, headers=key) for (path, body), key in zip(asked, keys, strict=True)]
    assert [each.status_code for each in first] == [409, 409, 409, 409, 404]
    still.delete(f"/migrate/cancel/{run}")
    ended(still, run)
    again = [still.post(path, json=body, headers=key) for (path, body), key in zip(asked, keys, strict=True)]
    assert [each.json() for each in again] == [each.json() for each in first]
    assert {each.headers["idempotency-replayed"] for each in again} == {"true"}
    assert still.post("/migrate", json={"exclusive": True}).status_code == 202, "by another key, or none"


def test_a_refusal_of_the_caller_is_not_kept(settings: Settings, database: Docs) -> None:
    seed(database, 5)
    secret, key = "s" * 20, {"Authorization": f"Bearer {'s' * 20}", "Idempotency-Key": "one"}
    with serving(settings, workers=0, tokens=f"read:{secret}") as client:
        assert client.post("/migrate", headers=key).status_code == 403
    with serving(settings, workers=0, tokens=f"operate:{secret}") as client:
        assert client.post("/migrate", headers=key).status_code == 202


def test_a_request_that_the_ledger_left_unanswered_is_not_carried_out_again(
    still: TestClient, database: Docs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run was added, and the connection died before that was known."""
    seed(database, 5)
    runs = still.app.state.system.deployment.store.ledger.runs  # type: ignore[attr-defined]
    real = runs.add

    def cut_off(*given: Any, **options: Any) -> None:
        real(*given, **options)
        raise Transient("no answer")

    key = {"Idempotency-Key": secrets.token_hex(8)}
    with monkeypatch.context() as patch:
        patch.setattr(runs, "add", cut_off)
        assert still.post("/migrate", headers=key).status_code == 503
    again = still.post("/migrate", headers=key)
    assert (again.status_code, again.json()["code"]) == (409, "in_progress")
    assert still.get("/migrate").json()["count"] == 1


def test_ten_runs_on_one_collection_at_once(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: still.post("/migrate").status_code, range(10)))
    assert answers == [202] * 10
    found = still.get("/migrate").json()["migrations"]
    assert sum(each["status"] in ("running", "pausing") for each in found) <= 1


def test_every_call_that_changes_something_is_audited(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    run = still.post("/migrate").json()["migrationId"]
    still.delete(f"/migrate/cancel/{run}")
    still.delete("/migrate/cancel/nothing")
    still.get("/migrate")
    for path in ("/nowhere", f"/migrate/status/{run}"):  # no route is reached
        assert still.post(path, headers={"Idempotency-Key": "one"}).status_code in (404, 405)
    assert database["whimbrel_answers"].count_documents({}) == 0
    rows = [(what, why) for what, _, why in audit(database) if what.startswith(("POST", "DELETE", "GET"))]
    assert rows == [
        ("POST /migrate", "answered 202"),
        (f"DELETE /migrate/cancel/{run}", "answered 200"),
        ("DELETE /migrate/cancel/nothing", "answered 404"),
    ]
    assert all(who.startswith("api:anybody@") for what, who, _ in audit(database) if what.startswith("POST"))


def test_the_documents_need_no_other_host(still: TestClient) -> None:
    page = still.get("/docs")
    assert page.status_code == 200
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert still.get("/openapi.json").json()["info"]["title"] == "Whimbrel"


@pytest.mark.parametrize("path", ["/health/live", "/migrate", "/nowhere"])
def test_every_answer_has_the_headers_of_caution(refusing: TestClient, path: str) -> None:
    headers = refusing.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "server" not in headers


@pytest.mark.parametrize("name", ["a/b", "%00", "x" * 10_000, "..%2f..", "%ff%fe", "a%0d%0ab:%20c"])
def test_ids_that_are_none(refusing: TestClient, name: str) -> None:
    answer = refusing.get(f"/migrate/status/{name}")
    assert answer.status_code in (404, 422)
    assert answer.json()["success"] is False
    assert refusing.get("/health/live").status_code == 200


def test_the_metrics_say_how_the_runs_are(api: TestClient, database: Docs) -> None:
    seed(database, 30)
    ended(api, api.post("/migrate").json()["migrationId"])
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'whimbrel_up{part="database"} 1.0' in answer.text
    assert "whimbrel_workers 1.0" in answer.text
    assert 'whimbrel_runs{status="running"} 0.0' in answer.text


def test_expensive_requests_are_limited(settings: Settings, database: Docs) -> None:
    seed(database, 3)
    with serving(settings.model_copy(update={"api_rate": "3/minute"}), workers=0) as client:
        answers = [client.post("/migrate", json={"dryRun": True}) for _ in range(5)]
        assert [each.status_code for each in answers] == [200, 200, 200, 429, 429]
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60
        assert answers[-1].json()["code"] == "too_many"
        assert client.get("/migrate").status_code == 200


def test_a_method_that_is_not_possible_is_told_all_that_are(still: TestClient) -> None:
    for path, methods in (
        ("/migrate", "GET, HEAD, POST"),
        ("/migrate/batch/20261124-k3f9x2.1", "GET, HEAD, POST"),
        ("/migrate/scheduler/schedules/nightly", "GET, HEAD, PUT, DELETE"),
        ("/migrate/retry-failed", "POST"),
        ("/health", "GET, HEAD"),
    ):
        answer = still.request("OPTIONS", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, methods), path


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/migrate?limti=5", "query.limti"),
        ("/health?verbose=1", "query.verbose"),
        ("/migrate?limit=5&limit=7", "query.limit"),
    ],
)
def test_query_parameters_that_no_route_reads_are_refused(
    refusing: TestClient, path: str, field: str
) -> None:
    answer = refusing.get(path)
    assert answer.status_code == 422
    assert [each["field"] for each in answer.json()["details"]] == [field]


def test_whole_numbers_may_be_written_with_a_point(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    run = still.post("/migrate", json={"batchSize": 3.0, "priority": 7.0}).json()["migrationId"]
    told = still.get(f"/migrate/status/{run}").json()["migration"]
    assert (told["batchSize"], told["priority"]) == (3, 7)
    for given in (3.5, "3", True, 1e300, 0.0):
        assert still.post("/migrate", json={"batchSize": given}).status_code == 422, given


def test_who_has_no_token_is_told_which_kind_to_send(settings: Settings) -> None:
    with serving(settings, workers=0, tokens=f"read:{'r' * 20}") as client:
        answer = client.get("/migrate")
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
