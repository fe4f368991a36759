"""Preflight over HTTP: warnings in the answers and in the runs, and `strict`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, seed, serving
from tests.servers.serve import eventually
from whimbrel.settings import Settings

STARTING = ["", "/retry-failed", "/complete-processing", "/process-all", "/batch/5"]
THINGS = """
from whimbrel import Migration

things = Migration(name="things", collection="things", filter={"a": 7}, update={"$set": {"n": 1}})
"""


@pytest.fixture
def watched(database: Docs) -> Iterator[None]:
    """Somebody listens to the sample collection."""
    seed(database, 40, status="mixed")
    with database["somemodels"].watch():
        yield


def warned(answer: dict[str, Any]) -> list[str]:
    return [each["check"] for each in answer["warnings"]]


def whole(client: TestClient, row: dict[str, Any]) -> dict[str, Any]:
    """A run of a list, with what lists leave out."""
    found: dict[str, Any] = client.get(f"/migrate/status/{row['migrationId']}").json()["migration"]
    return found


@pytest.mark.parametrize("path", STARTING)
def test_warnings_are_in_the_answer_and_in_the_run(still: TestClient, watched: None, path: str) -> None:
    dry = still.post(f"/migrate{path}", json={"dryRun": True})
    assert (dry.status_code, warned(dry.json())) == (200, ["change-streams"])
    answer = still.post(f"/migrate{path}")
    assert (answer.status_code, warned(answer.json())) == (202, ["change-streams"])
    run = still.get(f"/migrate/status/{answer.json()['migrationId']}").json()["migration"]
    assert run["warnings"] == answer.json()["warnings"]
    (found,) = run["warnings"]
    assert (found["level"], found["detail"]) == ("warning", {"open": ["collection"]})
    again = still.post(f"/migrate{path}").json()
    assert warned(again) == ["runs", "change-streams"]


@pytest.mark.parametrize("path", STARTING)
def test_strict_starts_nothing_where_there_are_warnings(
    still: TestClient, watched: None, database: Docs, path: str
) -> None:
    answer = still.post(f"/migrate{path}", json={"strict": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "warnings_refused")
    assert "[change-streams]" in answer.json()["error"]
    assert database["whimbrel_runs"].count_documents({}) == 0
    assert still.post(f"/migrate{path}", json={"strict": "yes"}).status_code == 422


def test_strict_starts_what_has_no_warnings(still: TestClient, database: Docs) -> None:
    seed(database, 10)
    answer = still.post("/migrate", json={"strict": True})
    assert (answer.status_code, answer.json()["warnings"]) == (202, [])


def test_bulk_warns_too(still: TestClient, watched: None, database: Docs) -> None:
    ids = [{"$oid": str(each["_id"])} for each in database["somemodels"].find({"status": "pending"}).limit(3)]
    assert warned(still.post("/migrate/bulk", json={"ids": ids, "dryRun": True}).json()) == ["change-streams"]
    strict = still.post("/migrate/bulk", json={"ids": ids, "strict": True})
    assert (strict.status_code, strict.json()["code"]) == (409, "warnings_refused")
    assert database["whimbrel_runs"].count_documents({}) == 0
    answer = still.post("/migrate/bulk", json={"ids": ids})
    assert (answer.status_code, warned(answer.json())) == (202, ["change-streams"])
    run = still.get(f"/migrate/status/{answer.json()['migrationId']}").json()["migration"]
    assert run["warnings"] == answer.json()["warnings"]


def test_nothing_that_matches_has_no_warnings(still: TestClient, watched: None) -> None:
    answer = still.post("/migrate", json={"filters": {"status": "pending", "name": "nobody"}, "strict": True})
    assert (answer.status_code, answer.json()["migrationId"], answer.json()["warnings"]) == (200, None, [])


def test_a_recovery_keeps_its_warnings(still: TestClient, watched: None, database: Docs) -> None:
    answer = still.post("/migrate/create-missing-migrations")
    assert answer.status_code == 200, answer.json()
    rows = list(database["whimbrel_runs"].find())
    runs = still.get("/migrate").json()["migrations"]
    assert len(runs) == len(rows) == 1
    assert warned(whole(still, runs[0])) == ["change-streams"]


def test_no_index_for_the_filter(settings: Settings, database: Docs, tmp_path: Path) -> None:
    source = tmp_path / "things.py"
    source.write_text(THINGS)
    database["things"].insert_many([{"_id": number, "a": number % 50} for number in range(120_000)])
    with serving(settings, workers=0, source=str(source)) as client:
        answers = [
            client.post("/migrate", json={"migration": "things", "dryRun": dry}).json()
            for dry in (True, False)
        ]
    for answer in answers:
        (found,) = answer["warnings"]
        assert (found["check"], found["level"]) == ("index", "warning")
        assert found["detail"]["winningPlan"]["stage"] == "COLLSCAN"
        assert found["detail"]["build"].endswith('createIndex({"a": 1, "_id": 1})')
    assert answers[1]["migrationId"]


def test_the_scheduler_records_warnings(settings: Settings, database: Docs, watched: None) -> None:
    with serving(settings, workers=0) as client:
        body = {"cron": "* * * * * *", "migration": "some-model"}
        assert client.put("/migrate/scheduler/schedules/often", json=body).status_code in (200, 201)
        client.post("/migrate/scheduler/start")
        eventually(lambda: client.get("/migrate").json()["count"] > 0)
        assert warned(whole(client, client.get("/migrate").json()["migrations"][0])) == ["change-streams"]
