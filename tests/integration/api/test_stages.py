"""Stages over HTTP, with both brokers."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed
from tests.servers.serve import eventually


def stages(api: TestClient, run: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/migrate/status/{run}").json()["migration"]["stages"]["stages"]
    return found


def test_a_run_waits_after_each_stage_for_an_approval(both: TestClient, database: Docs) -> None:
    seed(database, 300)
    asked = {"stages": ["30", "50%", "100%"], "approve": True}
    run = both.post("/migrate", json=asked).json()["migrationId"]
    for position, documents in enumerate((30, 150)):
        eventually(lambda position=position: stages(both, run)[position]["state"] == "approval")  # type: ignore[misc]
        assert database["somemodels"].count_documents({"status": "success"}) == documents
        answer = both.post(f"/migrate/approve/{run}")
        assert answer.status_code == 200
    found = ended(both, run)
    assert (found["status"], found["succeeded"]) == ("completed", 300)
    assert [(each["asked"], each["state"], each["evaluated"]) for each in found["stages"]["stages"]] == [
        ("30", "passed", 30), ("50%", "passed", 150), ("100%", "passed", 0),
    ]  # fmt: skip
    assert both.post(f"/migrate/approve/{run}").status_code == 409
    assert both.post("/migrate/approve/nix").status_code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"stages": ["10%", "1%", "100%"]}, 409),
        ({"stages": ["1%", "10%"]}, 409),
        ({"approve": True}, 409),
        ({"holdSeconds": 5}, 409),
        ({"stages": ["5", "100%"], "filters": {"status": "failed"}}, 409),
        ({"stages": ["0", "100%"]}, 422),
        ({"stages": ["101%", "100%"]}, 422),
        ({"stages": ["100%"]}, 422),
        ({"stages": [5, "100%"]}, 422),
        ({"stages": "5,100%"}, 422),
        ({"stages": [str(number) for number in range(1, 22)]}, 422),
        ({"stages": ["5", "100%"], "holdSeconds": -1}, 422),
        ({"stages": ["5", "100%"], "holdSeconds": 700_000}, 422),
    ],
)  # fmt: skip
def test_stages_that_cannot_be_are_refused(
    refusing: TestClient, refused: Docs, body: dict[str, Any], status: int
) -> None:
    seed(refused, 5)
    answer = refusing.post("/migrate", json=body)
    assert answer.status_code == status
    assert status == 422 or answer.json()["code"] == "stages_refused"
    assert refusing.get("/migrate").json()["count"] == 0
