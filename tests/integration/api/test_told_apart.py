"""What was asked for is kept with a run, and tells it from others when it has ended."""

from typing import Any

from bson import ObjectId
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed
from tests.integration.in_process_commands import Commands, commands
from whimbrel.settings import Settings

__all__ = ["commands"]
NOTHING: dict[str, Any] = {"limit": None, "ids": [], "idCount": None, "abridged": False}


def asked(client: TestClient, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """The run that came of a request, when it has ended."""
    answer = client.post(path, json=body or {})
    assert answer.status_code == 202, answer.text
    return ended(client, answer.json()["migrationId"])


def test_ended_runs_can_be_told_apart(
    api: TestClient, database: Docs, settings: Settings, commands: Commands
) -> None:
    seed(database, 20)
    seed(database, 2, status="processing")
    seed(database, 3, status="failed")
    chosen = [str(each["_id"]) for each in database["somemodels"].find({"status": "pending"}).limit(12)]
    narrow = {"status": "pending", "data.level": {"$gte": 0}, "name": {"$ne": "$$NOW"}}
    found = [
        asked(api, "/migrate/batch/4"),
        asked(api, "/migrate/retry-failed"),
        asked(api, "/migrate/complete-processing"),
        asked(api, "/migrate/bulk", {"ids": chosen}),
        asked(api, "/migrate", {"filters": narrow}),
    ]
    seed(database, 2)
    found.append(asked(api, "/migrate/process-all"))
    seed(database, 2)
    found.append(asked(api, "/migrate"))

    assert [(each["status"], each["phase"]) for each in found] == [
        ("completed", "pending"), ("completed", "failed"), ("completed", "processing"), ("completed", "pending"),
        ("completed", "pending"), ("completed", "all"), ("completed", "pending"),
    ]  # fmt: skip
    requests = [
        {name: value for name, value in each["request"].items() if name != "options"} for each in found
    ]
    one = {"status": "pending"}
    assert requests[0] == {
        **NOTHING,
        "route": "POST /migrate/batch/{batchSize}",
        "phase": "pending",
        "filters": one,
        "limit": 4,
    }
    assert requests[1] == {
        **NOTHING,
        "route": "POST /migrate/retry-failed",
        "phase": "failed",
        "filters": {"status": "failed"},
    }
    assert requests[2]["route"] == "POST /migrate/complete-processing"
    assert requests[3] == {
        **NOTHING, "route": "POST /migrate/bulk", "phase": "pending", "filters": None, "idCount": 12, "ids": chosen[:10],
    }  # fmt: skip
    assert requests[4] == {**NOTHING, "route": "POST /migrate", "phase": "pending", "filters": narrow}
    assert requests[5] == {**NOTHING, "route": "POST /migrate/process-all", "phase": "all", "filters": None}
    assert requests[6] == {**NOTHING, "route": "POST /migrate", "phase": "pending", "filters": one}
    # What is shown can be given again, and selects the same.
    assert [each["filters"] for each in found] == [
        one,
        {"status": "failed"},
        {"status": "processing"},
        {},
        narrow,
        {},
        one,
    ]

    listed = {each["migrationId"]: each for each in api.get("/migrate").json()["migrations"]}
    jobs = {each["jobId"]: each["migration"] for each in api.get("/migrate/jobs").json()["jobs"]}
    for each in found:
        for row in (listed[each["migrationId"]], jobs[each["migrationId"]]):
            assert {name: row[name] for name in ("request", "filters", "phase")} == {
                name: each[name] for name in ("request", "filters", "phase")
            }

    # The names of the old system stand beside the new.
    whole = found[5]
    assert (whole["completedAt"], whole["duration"] >= 0) == (whole["endTime"], True)
    told = api.get(
        "/migrate/jobs", params={"parentJobId": whole["migrationId"], "status": "completed"}
    ).json()["jobs"]
    job, batch = told[0], told[0]["batch"]
    assert (job["jobId"], job["parentJobId"], job["status"]) == (
        batch["correlationId"],
        whole["migrationId"],
        "done",
    )
    assert (batch["duration"], batch["completedAt"]) == (batch["durationMs"], batch["endTime"])

    commands.set(MONGODB_URI=str(settings.mongodb_uri), MONGODB_DB_NAME=database.name, COLUMNS="140")
    table, detail = commands("status").out, commands("status", found[3]["migrationId"]).out
    assert all(words in table for words in ("failed", "processing", "pending, first 4", "12 ids"))
    assert "POST /migrate/bulk" in detail
    assert chosen[0] in detail


def test_what_is_long_or_was_not_kept(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    filters = {"name": {"$nin": [str(ObjectId()) for _ in range(5000)]}}
    long = still.post("/migrate", json={"filters": filters}).json()["migrationId"]
    earlier = still.post("/migrate/batch/3").json()["migrationId"]
    database["whimbrel_runs"].update_one({"_id": earlier}, {"$unset": {"request": ""}})

    shown = still.get(f"/migrate/status/{long}").json()["migration"]
    request = still.get(f"/migrate/status/{earlier}").json()["migration"]["request"]
    rows = {each["migrationId"]: each for each in still.get("/migrate").json()["migrations"]}

    assert (shown["filters"], shown["request"]["filters"], shown["request"]["abridged"]) == (
        filters,
        None,
        True,
    )
    assert (rows[long]["filters"], rows[long]["request"]["abridged"]) == (None, True)
    # A run of an earlier version tells what its row has.
    assert request.pop("options")["batchSize"] == 3
    assert rows[earlier]["request"].pop("options")["batchSize"] == 3
    assert request == {**NOTHING, "route": None, "phase": "pending", "filters": None, "limit": 3}
    assert rows[earlier]["request"] == request
