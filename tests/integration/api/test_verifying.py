"""Verification over HTTP."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, ended, seed, serving
from whimbrel.settings import Settings


def content(database: Docs) -> list[dict[str, Any]]:
    return list(database["somemodels"].find().sort("_id", 1))


def migrated(api: TestClient) -> str:
    """A run at its end."""
    return str(ended(api, api.post("/migrate").json()["migrationId"])["migrationId"])


def test_a_run_is_verified(both: TestClient, database: Docs) -> None:
    seed(database, 200)
    run = migrated(both)
    before = content(database)
    answer = both.post(
        f"/migrate/verify/{run}", json={"all": True, "maxDocsPerSecond": 100_000, "batchSize": 50}
    )
    assert (answer.status_code, answer.json()["message"]) == (202, "Started.")
    found = ended(both, answer.json()["migrationId"])
    assert (found["kind"], found["of"], found["status"], found["totalBatches"]) == (
        "verification",
        run,
        "completed",
        4,
    )
    assert {each["check"]: each["proved"] for each in found["report"]} == {
        "ranges tile": True, "batches settled": True, "outcomes add up": True, "nothing left": True, "marks": True,
        "failures": True, "transform again": None,
    }  # fmt: skip
    again = found["report"][-1]
    assert "not idempotent" in again["said"]
    assert again["numbers"]["tried"] == again["numbers"]["differing"] == 200
    assert content(database) == before


def test_what_was_set_back_since_is_told(api: TestClient, database: Docs) -> None:
    seed(database, 50)
    run = migrated(api)
    database["somemodels"].update_one({}, {"$set": {"status": "pending"}})
    found = ended(api, api.post(f"/migrate/verify/{run}", json={"sample": 0}).json()["migrationId"])
    assert (found["status"], found["failed"]) == ("completed", 1)
    left = next(each for each in found["report"] if each["check"] == "nothing left")
    assert (left["proved"], left["verdict"], left["numbers"]["set back"]) == (None, "changed since", 1)
    groups = api.get(f"/migrate/failures/{found['migrationId']}").json()["groups"]
    assert [each["type"] for each in groups] == ["Left"]
    assert api.post(f"/migrate/failures/{found['migrationId']}/retry").status_code == 409
    assert api.post("/queue/retry-dlq").json()["retriedCount"] == 0


def test_what_cannot_be_verified_is_refused(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    waiting = still.post("/migrate").json()["migrationId"]
    assert still.post("/migrate/verify/nothing").status_code == 404
    answer = still.post(f"/migrate/verify/{waiting}")
    assert (answer.status_code, answer.json()["code"]) == (409, "state_forbids")


@pytest.mark.parametrize(
    "body",
    [
        {"sample": -1},
        {"sample": "5"},
        {"sample": 5, "all": True},
        {"all": 1},
        {"maxDocsPerSecond": 0},
        {"x": 1},
    ],
)
def test_fields_out_of_range_are_refused(refusing: TestClient, body: dict[str, Any]) -> None:
    assert refusing.post("/migrate/verify/nothing", json=body).status_code == 422


def test_it_needs_the_scope_operate(settings: Settings) -> None:
    tokens = ",".join(f"{scope}:{secret}" for scope, secret in TOKENS.items())
    with serving(settings, workers=0, tokens=tokens) as client:
        for scope, code in (("read", 403), ("operate", 404)):
            headers = {"Authorization": f"Bearer {TOKENS[scope]}"}
            assert client.post("/migrate/verify/nothing", headers=headers).status_code == code
