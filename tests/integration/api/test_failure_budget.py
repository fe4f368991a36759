"""Failure budgets over HTTP: given, passed, changed; causes accepted; all failures as lines of JSON."""

import json
from typing import Any

from bson import ObjectId
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, seed, serving
from tests.servers.serve import eventually
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.runs.batches import Batch
from whimbrel.settings import Settings

BAD: list[dict[str, Any]] = [
    {"maxFailures": -1}, {"maxFailures": 1.5}, {"maxFailures": "many"}, {"maxFailureRate": 5}, {"maxFailureRate": "5%"}, {"maxFailureRate": True},
    {"maxFailureRate": -0.1}, {"maxNewCause": 0}, {"maxNewCause": "OFF"},
]  # fmt: skip
OFF = {"maxFailures": None, "maxFailureRate": None, "maxNewCause": None}


def run_of(client: TestClient, run: str) -> dict[str, Any]:
    found: dict[str, Any] = client.get(f"/migrate/status/{run}").json()["migration"]
    return found


def settled(client: TestClient, run: str) -> dict[str, Any]:
    """The run when it has paused or ended."""
    eventually(lambda: run_of(client, run)["status"] in ("paused", "completed", "completed_with_failures"))
    return run_of(client, run)


def limits(run: dict[str, Any]) -> list[Any]:
    return [run[name] for name in OFF]


def test_a_run_over_its_budget_pauses_and_goes_on_by_an_accepted_cause(
    api: TestClient, database: Docs
) -> None:
    seed(database, 30, invalid=1.0)
    asked = {"maxNewCause": 20, "maxFailureRate": 0.5, "filters": {}}
    run = api.post("/migrate", json=asked).json()["migrationId"]
    paused = settled(api, run)
    assert (paused["status"], limits(paused)) == ("paused", [None, 0.5, 20])
    (over,) = paused["overBudget"]
    (cause,) = over["causes"]
    assert (over["rule"], over["value"], over["limit"], cause["failures"]) == ("newCause", 30, 20, 30)
    assert "gone over its failure budget" in paused["error"]
    assert api.get("/migrate").json()["migrations"][0]["overBudget"] == [over]

    path = f"/migrate/failures/{run}"
    refused = api.post(f"/migrate/resume/{run}")
    assert (refused.status_code, refused.json()["code"]) == (409, "state_forbids")
    assert "would pause at once again" in refused.json()["error"]
    assert api.get(path).json()["groups"][0]["accepted"] is None
    assert api.post(f"{path}/accept", json={"groups": [cause["group"], "none"]}).status_code == 404
    told = api.post(f"{path}/accept", json={"groups": [cause["group"]], "note": "on purpose"}).json()
    assert told["groups"][0]["accepted"]["note"] == "on purpose"
    assert api.get(path).json()["groups"] == told["groups"]
    assert api.post(f"{path}/accept", json={"groups": [cause["group"]], "withdraw": True}).json()["groups"][0]["accepted"] is None  # fmt: skip
    assert api.post(f"{path}/accept", json={"groups": [cause["group"]], "withdraw": True}).status_code == 409
    api.post(f"{path}/accept", json={"groups": [cause["group"]]})
    assert api.post(f"/migrate/resume/{run}").status_code == 200
    done = settled(api, run)
    assert (done["status"], done["failed"], done["overBudget"], done["error"]) == ("completed_with_failures", 30, [], None)  # fmt: skip


def test_all_failures_come_as_lines(still: TestClient, database: Docs) -> None:
    ledger = still.app.state.system.deployment.store.ledger  # type: ignore[attr-defined]
    seed(database, 3)
    run = ledger.runs.get(still.post("/migrate", json={"filters": {}}).json()["migrationId"])
    batch = Batch(run=run.id, seq=1, leg=0, phase="pending")
    ledger.batches.add([batch])
    keys = [ObjectId(), *range(2300)]
    failed = [FailedDocument(key=Key.of(key), kind=FailureKind.DATA, type="E", message="bad") for key in keys]
    ledger.failures.record(run, batch, failed)
    path = f"/migrate/failures/{run.id}/export"
    answer = still.get(path)
    assert answer.headers["content-type"].partition(";")[0] == "application/x-ndjson"
    rows = [json.loads(line) for line in answer.text.splitlines()]
    ids = {row["id"]["$oid"] if isinstance(row["id"], dict) else row["id"] for row in rows}
    assert (len(rows), ids) == (2301, {str(keys[0]), *range(2300)})
    assert {(row["state"], row["kind"], row["migrationId"], row["accepted"]) for row in rows} == {("dead", "data", run.id, False)}  # fmt: skip
    assert still.get(path, params={"state": "open"}).text == ""
    of_group = still.get(path, params={"group": rows[0]["group"], "state": "dead"})
    assert of_group.text == answer.text
    for wrong, status in ((f"{path}?group=none", 404), ("/migrate/failures/none/export", 404), (f"{path}?state=bad", 422)):  # fmt: skip
        assert still.get(wrong).status_code == status


def test_budgets_are_given_and_changed(still: TestClient, database: Docs) -> None:
    seed(database, 3)
    run = still.post("/migrate", json={"maxFailures": 5.0, "maxFailureRate": 1, "maxNewCause": "off"}).json()["migrationId"]  # fmt: skip
    assert limits(run_of(still, run)) == [5, 1.0, None]
    changed = still.patch(f"/migrate/settings/{run}", json={"maxFailures": "off", "maxFailureRate": 0.25})
    assert (changed.status_code, limits(changed.json())) == (200, [None, 0.25, None])
    assert still.patch(f"/migrate/settings/{run}", json={"maxNewCause": 7}).json()["maxNewCause"] == 7
    still.post(f"/migrate/pause/{run}")
    resumed = still.post(f"/migrate/resume/{run}", json={"maxFailures": 9}).json()["migration"]
    assert limits(resumed) == [9, 0.25, 7]
    bulk = still.post("/migrate/bulk", json={"ids": ["none"], "maxFailures": 1, "dryRun": True})
    assert bulk.status_code == 200

    for bad in BAD:
        for method, path in (("POST", "/migrate"), ("PATCH", f"/migrate/settings/{run}"), ("POST", f"/migrate/resume/{run}")):  # fmt: skip
            answer = still.request(method, path, json=bad)
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid"), (path, bad)
    assert limits(run_of(still, run)) == [9, 0.25, 7]


def test_defaults_are_those_of_the_settings_and_causes_are_accepted_by_operators(
    settings: Settings, database: Docs
) -> None:
    seed(database, 3, status="failed")
    given = {"whimbrel_max_failures": "7", "whimbrel_max_failure_rate": "5%", "whimbrel_max_new_cause": "20"}
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    with serving(settings.model_copy(update=given), workers=0, tokens=tokens) as client:
        operate = {"Authorization": f"Bearer {TOKENS['operate']}"}
        read = {"Authorization": f"Bearer {TOKENS['read']}"}
        run = client.post("/migrate/process-all", json={"seenCauses": ["2d39b3ed"]}, headers=operate).json()["migrationId"]  # fmt: skip
        found = client.get(f"/migrate/status/{run}", headers=read).json()["migration"]
        assert limits(found) == [7, 0.05, 20]
        row = database["whimbrel_known"].find_one({"run": run})
        assert row is not None
        assert (row["group"], row["accepted"], row["note"]) == ("2d39b3ed", False, "seen in a dry run")
        again = client.post("/migrate/retry-failed", headers=operate).json()["migrationId"]
        found = client.get(f"/migrate/status/{again}", headers=read).json()["migration"]
        assert limits(found) == [7, None, 20], "what is failed already may fail again"
        accept = client.post(f"/migrate/failures/{run}/accept", json={"groups": ["a"]}, headers=read)
        assert accept.status_code == 403
        assert client.get(f"/migrate/failures/{run}/export", headers=read).status_code == 200
