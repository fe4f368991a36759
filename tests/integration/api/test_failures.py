"""Failures over HTTP: by cause, by document, and tried again."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed, serving
from whimbrel.settings import Settings

SOURCE = """
from whimbrel import migration

@migration(collection="things", max_attempts=1)
def picky(thing):
    if thing["n"] == "text":
        return {"$set": {"n": thing["n"] + 1}}
    return {"$set": {"n": thing["n"] + 1, "m": thing["m"]}}
"""


@pytest.fixture
def picky(settings: Settings, database: Docs, tmp_path: Path) -> Iterator[TestClient]:
    """A function that fails in two ways."""
    source = tmp_path / "picky.py"
    source.write_text(SOURCE)
    database["things"].insert_many([{"_id": i, "n": 0, "m": 1} for i in range(20)])
    database["things"].insert_many([{"_id": f"text {i}", "n": "text", "m": 1} for i in range(3)])
    database["things"].insert_many([{"_id": {"k": i}, "n": 0} for i in range(2)])
    with serving(settings, workers=1, source=str(source)) as client:
        yield client


def test_failures_by_cause_by_document_and_again(picky: TestClient, database: Docs) -> None:
    run = ended(picky, picky.post("/migrate", json={"migration": "picky"}).json()["migrationId"])
    path = f"/migrate/failures/{run['migrationId']}"
    assert (run["status"], run["failed"], run["changed"]) == ("completed_with_failures", 5, 20)

    told = picky.get(path).json()
    assert (told["open"], told["dead"], told["documents"]) == (0, 5, None)
    texts, missing = told["groups"]
    assert (texts["type"], texts["dead"], texts["example"]) == ("TypeError", 3, "text 0")
    assert (missing["type"], missing["dead"], missing["example"]) == ("KeyError", 2, {"k": 0})
    assert picky.get(path, params={"group": missing["group"]}).json()["groups"] == [missing]
    assert len(picky.get(path, params={"limit": 1}).json()["groups"]) == 1

    rows = picky.get(path, params={"documents": True}).json()["documents"]
    by_group = sorted(rows, key=lambda each: each["group"])  # stable: within a group they stand by `_id`
    assert rows == by_group
    assert [each["id"] for each in rows if each["group"] == texts["group"]] == ["text 0", "text 1", "text 2"]
    assert [each["id"] for each in rows if each["group"] == missing["group"]] == [{"k": 0}, {"k": 1}]
    assert all((each["state"], each["attempt"], each["dueAt"]) == ("dead", 1, None) for each in rows)
    assert all('return {"$set"' in each["traceback"] for each in rows)
    one = picky.get(path, params={"documents": True, "group": texts["signature"], "limit": 2}).json()
    assert [each["id"] for each in one["documents"]] == ["text 0", "text 1"]

    database["things"].update_many({"m": {"$exists": False}}, {"$set": {"m": 2}})
    again = picky.post(f"{path}/retry", json={"group": missing["group"]})
    assert (again.status_code, again.json()["reopened"]) == (202, 2)
    after = ended(picky, run["migrationId"])
    assert (after["status"], after["changed"], after["failed"]) == ("completed_with_failures", 22, 3)
    resolved = picky.get(path, params={"documents": True, "group": missing["group"]}).json()["documents"]
    assert {(each["state"], each["resolution"]) for each in resolved} == {("resolved", "changed")}
    dead = picky.get(path, params={"state": "dead"}).json()
    assert ([each["group"] for each in dead["groups"]], dead["rest"]["resolved"]) == ([texts["group"]], 0)
    over = picky.get(path, params={"documents": True, "state": "resolved"}).json()["documents"]
    assert [each["id"] for each in over] == [{"k": 0}, {"k": 1}]


def test_pages_of_failures(picky: TestClient) -> None:
    run = ended(picky, picky.post("/migrate", json={"migration": "picky"}).json()["migrationId"])
    path = f"/migrate/failures/{run['migrationId']}"
    rows = picky.get(path, params={"documents": True}).json()["documents"]
    _, missing = picky.get(path).json()["groups"]
    first = picky.get(path, params={"documents": True, "limit": 3}).json()
    after = picky.get(path, params={"documents": True, "limit": 3, "cursor": first["nextCursor"]}).json()
    assert (first["documents"] + after["documents"], after["nextCursor"]) == (rows, None)
    begun = picky.get(path, params={"limit": 1}).json()
    assert begun["rest"] == {"groups": 1, "open": 0, "dead": 2, "resolved": 0}
    assert picky.get(path, params={"cursor": begun["nextCursor"]}).json()["groups"] == [missing]
    assert missing["place"] == "picky.py:8 in picky"
    for cursor in ("x", first["nextCursor"]):
        assert picky.get(path, params={"cursor": cursor}).status_code == 422
    for cursor in ("x", begun["nextCursor"], "DAAAABBzAAEAAAAA"):
        assert picky.get(path, params={"documents": True, "cursor": cursor}).status_code == 422


def test_what_cannot_be_tried_again(still: TestClient, database: Docs) -> None:
    seed(database, 3)
    run = still.post("/migrate").json()["migrationId"]
    for method, path, body, status, code in [
        ("GET", "/migrate/failures/20990101-aaaaaa", None, 404, "run_unknown"),
        ("POST", "/migrate/failures/20990101-aaaaaa/retry", None, 404, "run_unknown"),
        ("GET", f"/migrate/failures/{run}?group=abc", None, 404, "group_unknown"),
        ("POST", f"/migrate/failures/{run}/retry", {"group": "abc"}, 404, "group_unknown"),
        ("POST", f"/migrate/failures/{run}/retry", None, 409, "state_forbids"),
        ("POST", f"/migrate/failures/{run}/retry", {"grup": "abc"}, 422, "invalid"),
        ("GET", f"/migrate/failures/{run}?limit=0", None, 422, "invalid"),
    ]:
        answer = still.request(method, path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
