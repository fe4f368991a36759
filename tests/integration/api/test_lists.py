"""Lists of runs: as many questions to MongoDB for many rows as for one, slim rows, cursors that are checked."""

import base64
import json
import threading
from collections.abc import Iterator
from typing import Any

import bson
import pytest
from pymongo import monitoring
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed, serving
from tests.servers.serve import eventually
from whimbrel.settings import Settings

SLIM = 2048  # bytes of a row as JSON


class Asked(monitoring.CommandListener):
    """The commands that routes send: those of the coordinator's threads do not count."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if threading.current_thread().name.startswith("AnyIO"):
            self.names.append(event.command_name)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...


@pytest.fixture
def asked() -> Iterator[Asked]:
    """Clients that are made from now on report to it."""
    found = Asked()
    monitoring.register(found)
    yield found
    monitoring._LISTENERS.command_listeners.remove(found)


def listed(client: TestClient, asked: Asked, path: str, field: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The commands that a list took, and its rows."""
    asked.names.clear()
    answer = client.get(path, params={"limit": 1000})
    assert answer.status_code == 200, answer.text
    return list(asked.names), answer.json()[field]


def waiting(client: TestClient, count: int) -> None:
    """Runs on one collection, of which one begins, in part over ids."""
    for at in range(count):
        assert (
            client.post(
                "/migrate/bulk" if at % 2 else "/migrate", json={"ids": [1]} if at % 2 else {}
            ).status_code
            == 202
        )


def test_a_long_list_takes_no_more_questions_than_a_short_one(
    asked: Asked, settings: Settings, database: Docs
) -> None:
    seed(database, 1)
    database["somemodels"].insert_one({"_id": 1, "status": "pending"})
    with serving(settings, workers=0) as client:
        client.post("/seed/job-status", json={"count": 5, "seed": 1})
        waiting(client, 2)
        few = [
            listed(client, asked, path, field)
            for path, field in (("/migrate", "migrations"), ("/migrate/jobs", "jobs"))
        ]
        client.post("/seed/job-status", json={"count": 120, "seed": 1})
        waiting(client, 6)
        # What a crash has left uncounted is counted for all runs together.
        database["whimbrel_blocks"].update_many(
            {"run": {"$regex": "^sample"}}, {"$set": {"marked": True}, "$inc": {"marks": 1}}
        )
        many = [
            listed(client, asked, path, field)
            for path, field in (("/migrate", "migrations"), ("/migrate/jobs", "jobs"))
        ]
        for each in many[0][1]:
            alone = client.get(f"/migrate/status/{each['migrationId']}").json()["migration"]
            moving = {
                "updatedAt",
                "seconds",
                "message",
                "status",
                "startTime",
                "totalItems",
                "state",
                "share",
                "reasons",
            }
            same = [name for name in each if each["endTime"] is not None or name not in moving]
            assert {name: alone[name] for name in same} == {name: each[name] for name in same}
    assert any(each["failed"] for each in many[0][1])
    assert [len(rows) for _, rows in few] == [7, 7]
    assert [len(rows) for _, rows in many] == [133, 133]
    assert "getMore" not in many[0][0]
    for (before, _), (after, rows) in zip(few, many, strict=True):
        # What is not counted in marked blocks while the sweep has not come to them; and, as these may change, the three once more.
        assert len(after) <= len(before) + 4, after
        for each in rows:
            row = each.get("migration", each) if "jobType" in each else each
            assert not {"warnings", "report", "update"} & row.keys()
            assert len(json.dumps(row)) < SLIM


def nonsense() -> list[str]:
    """What no list has given out."""
    said = bson.encode({"c": "yesterday", "i": "x"}), bson.encode({"c": 1}), b"\0" * 9, b"x"
    return [
        "",
        "0" * 200,
        "AAAA" * 50,
        "x",
        "5",
        "-1",
        "0x5",
        "1e3",
        "20261124-k3f9x2",
        "é",
        "%00",
        "a" * 150,
    ] + [base64.urlsafe_b64encode(each).decode() for each in said]


def test_a_cursor_is_one_that_the_list_has_given(still: TestClient, database: Docs) -> None:
    still.post("/seed/job-status", json={"count": 6, "seed": 1})
    runs = [each["migrationId"] for each in still.get("/migrate").json()["migrations"]]
    page = still.get("/migrate", params={"limit": 3}).json()
    asked: list[tuple[str, dict[str, str], list[str]]] = [
        ("/migrate", {}, [runs[0], f"{runs[0]}.1"]),
        ("/migrate/jobs", {}, [runs[0], f"{runs[0]}.1"]),
        (
            "/migrate/jobs",
            {"parentJobId": runs[0]},
            [runs[0], f"{runs[1]}.1", f"{runs[0]}.x", page["nextCursor"]],
        ),
        (f"/migrate/failures/{runs[0]}", {}, [page["nextCursor"]]),
        (f"/migrate/failures/{runs[0]}", {"documents": "true"}, [page["nextCursor"]]),
    ]
    for path, given, others in asked:
        for cursor in [*nonsense(), *others]:
            answer = still.get(path, params={**given, "cursor": cursor})
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), (path, cursor)
            assert "cursor" in answer.json()["error"]

    database["whimbrel_runs"].delete_one({"_id": runs[2]})  # the last one of the page
    rest = still.get("/migrate", params={"cursor": page["nextCursor"]}).json()["migrations"]
    assert [each["migrationId"] for each in rest] == runs[3:]
    batches = still.get("/migrate/jobs", params={"parentJobId": runs[0], "cursor": f"{runs[0]}.0"})
    assert batches.json()["count"] >= 1


def test_cancelled_batches_are_not_completed(still: TestClient, database: Docs) -> None:
    seed(database, 500)
    run = still.post("/migrate", json={"batchSize": 100}).json()["migrationId"]
    eventually(lambda: still.get(f"/migrate/status/{run}").json()["migration"]["totalBatches"] >= 3)
    assert still.delete(f"/migrate/cancel/{run}").status_code == 200
    told = ended(still, run)
    assert (told["status"], told["completedBatches"]) == ("cancelled", 0)
    assert told["cancelledBatches"] == told["totalBatches"] >= 3
    assert still.get("/migrate").json()["migrations"][0]["completedBatches"] == 0
    states = [each["status"] for each in still.get(f"/migrate/jobs?parentJobId={run}").json()["jobs"]]
    assert set(states) == {"cancelled"}
    assert still.get(f"/migrate/jobs?parentJobId={run}&status=completed").json()["count"] == 0
    assert (
        still.get(f"/migrate/jobs?parentJobId={run}&status=completed,cancelled").json()["count"]
        == told["totalBatches"]
    )
    assert [
        job["jobId"] for job in still.get("/migrate/jobs?status=cancelled&status=failed").json()["jobs"]
    ] == [run]
