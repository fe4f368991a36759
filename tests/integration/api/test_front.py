"""The front page, HEAD, and what is said of names that are nearly right."""

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import MongoClient
from starlette.testclient import TestClient

from tests.integration.api.conftest import serving
from whimbrel.api.openapi import operations
from whimbrel.settings import Settings


@pytest.fixture(scope="module")
def front(mongo_uri: str, client: MongoClient[dict[str, Any]]) -> Iterator[TestClient]:
    """One server, without workers, for what changes nothing that another test sees."""
    name = f"test_{secrets.token_hex(4)}"
    with serving(
        Settings(mongodb_uri=mongo_uri, mongodb_db_name=name, rabbitmq_url=None), workers=0
    ) as found:
        yield found
    client.drop_database(name)


def gets(client: TestClient, run: str) -> list[str]:
    """A path of every route that answers to GET, but for streams."""
    names = {"{migrationId}": run, "{batch}": f"{run}.1", "{name}": "default"}
    found = []
    for path, method, _ in operations(client.get("/openapi.json").json()):
        if method == "GET":
            for name, value in names.items():
                path = path.replace(name, value)  # noqa: PLW2901
            found.append(path)
    return [*found, "/docs", "/openapi.json"]


def test_the_front_page_links_to_what_there_is(front: TestClient) -> None:
    told = front.get("/").json()
    assert (told["success"], told["name"]) == (True, "Whimbrel")
    assert {front.get(path).status_code for path in told["links"].values()} <= {200, 503}
    assert {"/docs", "/openapi.json", "/migrate", "/health/ready"} <= set(told["links"].values())


def test_head_says_what_get_says_without_a_body(front: TestClient) -> None:
    assert front.post("/seed/some-model", json={"count": 5, "status": "pending"}).status_code == 201
    run = front.post("/migrate").json()["migrationId"]
    varying = {"content-length", "date"}
    for path in gets(front, run):
        if "events" in path or "stream" in path:
            continue  # GET of a run that waits has no end, nor has that of all runs
        full, head = front.get(path), front.head(path)
        assert (head.status_code, head.content) == (full.status_code, b""), path
        assert head.headers.keys() == full.headers.keys(), path
        assert {k: v for k, v in head.headers.items() if k not in varying} == {
            k: v for k, v in full.headers.items() if k not in varying
        }, path
        if "export" not in path:  # it is streamed
            assert int(head.headers["content-length"]) > 0, path
    for path in (f"/migrate/events/{run}", "/migrate/stream", "/queue/monitoring?stream=true"):
        head = front.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"].startswith("text/event-stream")
    for path, status in (("/nowhere", 404), ("/migrate/retry-failed", 405), ("/migrate?limit=0", 422)):
        assert (front.head(path).status_code, front.head(path).content) == (status, b""), path
    assert front.head("/migrate/retry-failed").headers["allow"] == "POST"
    described = front.get("/openapi.json").json()["paths"]
    assert all("head" in item for item in described.values() if "get" in item)


@pytest.mark.parametrize(
    "text", ["1_0", "%2B5", "%205", "5%20", "0x5", "5e0", "%D9%A5", "5.", "5.5", "--5", ""]
)
def test_numbers_in_paths_and_queries_are_written_as_in_json(front: TestClient, text: str) -> None:
    asked = [
        ("GET", f"/migrate?limit={text}"),
        ("GET", f"/migrate/jobs?limit={text}"),
        ("POST", f"/queue/retry-dlq?limit={text}"),
    ]
    asked += [("POST", f"/migrate/batch/{text}"), ("POST", f"/seed/bulk/{text}")] if text else []
    for method, path in asked:
        answer = front.request(method, path)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), path
    assert front.get("/migrate?limit=5").status_code == 200


@pytest.mark.parametrize(
    "filters", [{"": 1}, {"": {}}, {"": []}, {"": {"$gt": 1}}, {"$or": [{"": 1}]}, {"a.": {"": 1}}]
)
def test_a_field_may_have_an_empty_name(front: TestClient, filters: dict[str, Any]) -> None:
    assert front.post("/seed/some-model", json={"count": 5, "status": "pending"}).status_code == 201
    answer = front.post("/migrate", json={"filters": filters})
    assert (answer.status_code, answer.json()["totalDocuments"]) == (200, 0)


def test_files_of_the_document_say_which_methods_there_are(front: TestClient) -> None:
    for method in ("POST", "OPTIONS"):
        answer = front.request(method, "/static-offline-docs/redoc.standalone.js")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    ("method", "path", "body", "field", "meant"),
    [
        ("POST", "/migrate", {"name": "some-model"}, "body.name", "migration"),
        ("POST", "/migrate", {"batchsize": 5}, "body.batchsize", "batchSize"),
        ("POST", "/migrate", {"filter": {}}, "body.filter", "filters"),
        ("POST", "/migrate/bulk", {"id": [1], "ids": [1]}, "body.id", "ids"),
        ("POST", "/migrate/reset-pending", {"status": ["failed"]}, "body.status", "from"),
        ("POST", "/seed/some-model", {"documents": 5}, "body.documents", "count"),
        (
            "PUT",
            "/migrate/scheduler/schedules/x",
            {"migration": "a", "cron": "* * * * *", "timezone": "UTC"},
            "body.timezone",
            "zone",
        ),
        ("PATCH", "/migrate/settings/x", {"rate": 5}, "body.rate", "maxDocsPerSecond"),
        ("GET", "/migrate?limti=5", None, "query.limti", "limit"),
        ("GET", "/migrate/jobs?parent=x", None, "query.parent", "parentJobId"),
    ],
)
def test_a_name_that_is_nearly_right_is_told_the_right_one(
    front: TestClient, method: str, path: str, body: object, field: str, meant: str
) -> None:
    answer = front.request(method, path, json=body)
    told = {each["field"]: each["message"] for each in answer.json()["details"]}
    assert (answer.status_code, told[field]) == (422, f"Unknown here: did you mean {meant!r}?")
    assert f"did you mean {meant!r}?" in answer.json()["error"]


def test_a_name_that_means_nothing_is_only_unknown(front: TestClient) -> None:
    answer = front.post("/migrate", json={"colour": "blue"}).json()
    assert answer["details"] == [{"field": "body.colour", "message": "Unknown here"}]
    assert answer["error"] == "These fields cannot be used: body.colour: Unknown here."
