"""What was left lying: documents back to pending, lost batches, batches and documents of nobody."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed, serving
from tests.servers.serve import eventually
from whimbrel.settings import Settings

SOURCE = """
from whimbrel import Migration

ours = Migration(name="ours", collection="things", mark="status", update={"$inc": {"n": 1}}, max_attempts=1)
marker = Migration(name="marker", collection="things", update={"$inc": {"m": 1}})
"""


@pytest.fixture
def source(tmp_path: Path) -> str:
    found = tmp_path / "source.py"
    found.write_text(SOURCE)
    return str(found)


@pytest.fixture
def at_work(settings: Settings, source: str) -> Iterator[TestClient]:
    with serving(settings, workers=1, source=source) as client:
        yield client


@pytest.fixture
def idle(settings: Settings, source: str) -> Iterator[TestClient]:
    with serving(settings, workers=0, source=source) as client:
        yield client


def statuses(database: Docs, name: str = "somemodels") -> dict[str, int]:
    return dict(Counter(each["status"] for each in database[name].find()))


def a_batch(
    database: Docs, token: str, *, status: str = "running", lease: int = 60_000, **fields: Any
) -> None:
    """A row as a worker on another host leaves it; its lease ends `lease` milliseconds from now, by the server's clock."""
    run, _, seq = token.partition(".")
    row = {
        "run": run, "seq": int(seq), "leg": 0, "phase": "pending", "lo": None, "cuts": [], "ids": None, "last": False,
        "estimated": 0, "status": status, "claims": 1, "takeovers": 0, "solo": False, "counts": {}, "owner": "theirs", "worker": "host:1:a",
        "lsid": database.client.start_session().session_id["id"], **fields,
    }  # fmt: skip
    until = {"$add": ["$$NOW", lease]}
    change: Any = [
        {"$set": {**{name: {"$literal": each} for name, each in row.items()}, "leaseUntil": until}}
    ]
    database["whimbrel_batches"].update_one({"_id": token}, change, upsert=True)


# reset-pending


def test_what_is_left_in_processing_and_failed_is_pending_again(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    seed(database, 4, status="processing")
    seed(database, 3, status="failed")
    seed(database, 2, status="success")
    answer = still.post("/migrate/reset-pending")
    told = answer.json()
    assert answer.status_code == 202
    assert (told["resetDocuments"], told["leftAlone"], told["refused"], told["complete"]) == (7, 0, 0, True)
    assert told["byStatus"] == {"processing": 4, "failed": 3, "success": 0}
    assert statuses(database) == {"pending": 12, "success": 2}
    audit = database["whimbrel_audit"].find_one({"what": "documents reset to pending"}) or {}
    assert audit["why"].endswith("somemodels: processing 4, failed 3")
    assert still.post("/migrate/reset-pending").json()["resetDocuments"] == 0


def test_success_needs_a_confirmation(still: TestClient, database: Docs) -> None:
    seed(database, 6, status="success")
    database["somemodels"].update_many({}, {"$set": {"processedBy": "old.1"}})
    first = database["somemodels"].find_one() or {}
    body = {"from": ["success"], "filters": {"_id": {"$oid": str(first["_id"])}}}
    for confirm in (None, "yes", "reset_success"):
        told = still.post("/migrate/reset-pending", json=body | {"confirm": confirm})
        assert (told.status_code, told.json()["code"]) == (400, "confirmation_missing")
    assert statuses(database) == {"success": 6}
    told = still.post("/migrate/reset-pending", json=body | {"confirm": "RESET_SUCCESS"})
    assert (told.status_code, told.json()["byStatus"]["success"]) == (202, 1)
    assert statuses(database) == {"success": 5, "pending": 1}
    after = database["somemodels"].find_one({"_id": first["_id"]}) or {}
    assert "processedBy" not in after


def test_what_a_live_worker_holds_is_left_alone(idle: TestClient, database: Docs) -> None:
    things = database["things"]
    a_batch(database, "elsewhere.1")
    a_batch(database, "elsewhere.2", status="done")
    a_batch(database, "elsewhere.3", lease=-60_000)
    tokens = ["elsewhere.1/c", "elsewhere.2/c", "elsewhere.3/c", "nobody.1/c", None]
    things.insert_many(
        [
            {"_id": i, "status": "processing", "n": 0} | ({"processedBy": token} if token else {})
            for i, token in enumerate(tokens)
        ]
    )
    things.insert_one({"_id": 9, "status": "failed", "processedBy": "elsewhere.1/f"})
    told = idle.post("/migrate/reset-pending", json={"migration": "ours"}).json()
    assert (told["byStatus"], told["leftAlone"]) == ({"processing": 2, "failed": 0, "success": 0}, 4)
    pending = {each["_id"]: each for each in things.find({"status": "pending"})}
    assert set(pending) == {1, 2}
    assert all("processedBy" not in each for each in pending.values())


def test_failures_of_what_is_reset_are_over(at_work: TestClient, database: Docs) -> None:
    things = database["things"]
    things.insert_many([{"_id": i, "status": "pending", "n": 0} for i in range(20)])
    things.update_many({"_id": {"$lt": 5}}, {"$set": {"n": "text"}})
    run = ended(at_work, at_work.post("/migrate", json={"migration": "ours"}).json()["migrationId"])
    assert (run["status"], run["failed"], statuses(database, "things")) == (
        "completed_with_failures",
        5,
        {"success": 15, "failed": 5},
    )
    body = {"migration": "ours", "from": ["failed"], "filters": {"_id": {"$lt": 3}}}
    told = at_work.post("/migrate/reset-pending", json=body).json()
    assert (told["resetDocuments"], told["resolvedFailures"]) == (3, 3)
    after = at_work.get(f"/migrate/status/{run['migrationId']}").json()["migration"]
    assert after["failed"] == 2
    rows = at_work.get(f"/migrate/failures/{run['migrationId']}", params={"documents": True}).json()
    assert [each["resolution"] for each in rows["documents"]] == [None] * 2 + ["reset"] * 3
    things.update_many({"n": "text"}, {"$set": {"n": 0}})
    again = ended(at_work, at_work.post("/migrate", json={"migration": "ours"}).json()["migrationId"])
    assert (again["status"], again["changed"]) == ("completed", 3)


def test_what_is_reset_is_what_find_selects(idle: TestClient, database: Docs) -> None:
    things = database["things"]
    turned = {"$id": 1, "$ref": "c"}
    things.insert_many(
        {"_id": name, "status": "failed", "of": turned} for name in ("ann", "bea", "ben", "bob")
    )
    things.insert_one({"_id": "bip", "status": "failed", "of": {"$ref": "c", "$id": 1}})
    filters = {"_id": {"$regex": "^b", "$nin": ["ben", "bob"]}, "of": turned}
    told = idle.post("/migrate/reset-pending", json={"migration": "ours", "filters": filters}).json()
    assert told["resetDocuments"] == 1
    assert [each["_id"] for each in things.find({"status": "pending"})] == ["bea"]


def test_a_validator_that_refuses_is_counted(idle: TestClient, database: Docs) -> None:
    things = database["things"]
    things.insert_many([{"_id": i, "status": "failed", "n": i, "processedBy": "old.1/f"} for i in range(10)])
    database.command("collMod", "things", validator={"$or": [{"n": {"$lt": 7}}, {"status": "failed"}]})
    told = idle.post("/migrate/reset-pending", json={"migration": "ours"}).json()
    assert (told["resetDocuments"], told["refused"]) == (7, 3)
    assert statuses(database, "things") == {"pending": 7, "failed": 3}


def test_nothing_is_reset_while_a_run_holds_the_collection(still: TestClient, database: Docs) -> None:
    seed(database, 5)
    seed(database, 5, status="failed")
    run = still.post("/migrate").json()["migrationId"]
    eventually(lambda: still.get(f"/migrate/status/{run}").json()["migration"]["status"] == "running")
    told = still.post("/migrate/reset-pending")
    assert (told.status_code, told.json()["code"]) == (409, "collection_busy")
    still.post(f"/migrate/pause/{run}")
    eventually(lambda: still.get(f"/migrate/status/{run}").json()["migration"]["status"] == "paused")
    assert still.post("/migrate/reset-pending").status_code == 409
    assert statuses(database) == {"pending": 5, "failed": 5}
    still.delete(f"/migrate/cancel/{run}")
    eventually(lambda: still.get(f"/migrate/status/{run}").json()["migration"]["status"] == "cancelled")
    assert still.post("/migrate/reset-pending").json()["resetDocuments"] == 5


def test_more_than_a_page(still: TestClient, database: Docs) -> None:
    seed(database, 2500, status="failed")
    database["somemodels"].update_many(
        {}, [{"$set": {"processedBy": {"$concat": ["old.", {"$toString": "$_id"}, "/f"]}}}]
    )
    assert still.post("/migrate/reset-pending").json()["byStatus"]["failed"] == 2500
    assert (
        database["somemodels"].count_documents({"status": "pending", "processedBy": {"$exists": False}})
        == 2500
    )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"from": ["pending"]}, 422, "invalid"),
        ({"from": []}, 422, "invalid"),
        ({"from": "failed"}, 422, "invalid"),
        ({"filters": {"status": "failed"}}, 422, "filter_refused"),
        ({"filters": {"$where": "1"}}, 422, "filter_refused"),
        ({"migration": "marker"}, 409, "state_forbids"),
        ({"migration": "nope"}, 404, "migration_unknown"),
        ({"odd": 1}, 422, "invalid"),
    ],
)
def test_what_cannot_be_reset(idle: TestClient, database: Docs, body: Any, status: int, code: str) -> None:
    seed(database, 3, status="failed")
    answer = idle.post("/migrate/reset-pending", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert statuses(database) == {"failed": 3}


# fix-stuck-jobs


def test_lost_batches_are_queued_again_and_live_ones_are_not(settings: Settings, database: Docs) -> None:
    """The sweep of this process rests for an hour: the request alone takes batches over."""
    seed(database, 50)
    with serving(settings.model_copy(update={"whimbrel_sweep": 3600.0}), workers=0) as client:
        run = client.post("/migrate", json={"batchSize": 10}).json()["migrationId"]
        eventually(lambda: database["whimbrel_batches"].count_documents({"run": run}) >= 5)
        told = client.post("/migrate/fix-stuck-jobs").json()
        assert (told["released"], told["message"]) == ([], "No lost batch was found.")
        assert [each["reasons"][0][:14] for each in told["stuck"]] == ["No live worker"]
        for seq, lease in ((1, -60_000), (2, 60_000)):
            row: Any = database["whimbrel_batches"].find_one({"_id": f"{run}.{seq}"}) or {}
            a_batch(database, f"{run}.{seq}", lease=lease, cuts=row["cuts"], lo=row["lo"])
        told = client.post("/migrate/fix-stuck-jobs").json()
        assert [(each["batchId"], each["takeovers"]) for each in told["released"]] == [(f"{run}.1", 1)]
        states = {row["seq"]: row["status"] for row in database["whimbrel_batches"].find({"run": run})}
        assert (states[1], states[2]) == ("queued", "running")
        waiting = client.post("/migrate").json()["migrationId"]
        told = client.post("/migrate/fix-stuck-jobs").json()
        stuck = {each["migrationId"]: each["reasons"] for each in told["stuck"]}
        assert any(f"waits for run {run}" in each for each in stuck[waiting])
    audit = database["whimbrel_audit"].find_one({"what": "1 lost batches queued again"}) or {}
    assert audit["run"] == run


# create-missing-migrations


def test_batches_of_no_run_are_settled_by_what_documents_say(idle: TestClient, database: Docs) -> None:
    database["things"].insert_many(
        [
            {"_id": i, "status": "success", "processedBy": "gone.1" + ("/s" if i == 3 else "")}
            for i in range(4)
        ]
    )
    ids = [{"_id": i} for i in range(10)]
    a_batch(database, "gone.1", status="queued", ids=ids)
    a_batch(database, "gone.2", status="queued", ids=ids, claims=0)
    a_batch(database, "gone.3", status="queued", ids=ids)
    a_batch(database, "gone.4")
    told = idle.post("/migrate/create-missing-migrations", json={"migration": "marker"}).json()
    assert told["orphans"] == [
        {
            "migrationId": "gone", "cancelledBatches": 3, "heldBatches": 1, "changed": 3, "unchanged": 0, "skipped": 1,
            "inferred": True,
        }
    ]  # fmt: skip
    assert (told["unownedDocuments"], told["migrationId"]) == (None, None)
    rows = {row["_id"]: row["status"] for row in database["whimbrel_batches"].find()}
    assert rows == {"gone.1": "cancelled", "gone.2": "cancelled", "gone.3": "cancelled", "gone.4": "running"}
    again = idle.post("/migrate/create-missing-migrations", json={"migration": "marker"}).json()
    assert again["orphans"][0]["cancelledBatches"] == 0


def test_documents_of_nobody_are_taken_up_by_one_run(at_work: TestClient, database: Docs) -> None:
    things = database["things"]
    a_batch(database, "elsewhere.1")
    things.insert_many([{"_id": i, "status": "processing", "n": 0} for i in range(5)])
    things.insert_many(
        [{"_id": 10 + i, "status": "processing", "n": 0, "processedBy": "lost.7/c"} for i in range(3)]
    )
    things.insert_one({"_id": 20, "status": "processing", "n": 0, "processedBy": "elsewhere.1/c"})
    told = at_work.post("/migrate/create-missing-migrations", json={"migration": "ours"}).json()
    assert (told["unownedDocuments"], told["message"]) == (8, "A run was started.")
    run = ended(at_work, told["migrationId"])
    assert (run["status"], run["changed"]) == ("completed", 8)
    assert statuses(database, "things") == {"success": 8, "processing": 1}
    again = at_work.post("/migrate/create-missing-migrations", json={"migration": "ours"}).json()
    assert (again["unownedDocuments"], again["migrationId"]) == (0, None)


def test_a_second_request_starts_no_second_run(idle: TestClient, database: Docs) -> None:
    database["things"].insert_many([{"_id": i, "status": "processing", "n": 0} for i in range(5)])
    body = {"migration": "ours"}
    first = idle.post("/migrate/create-missing-migrations", json=body).json()
    second = idle.post("/migrate/create-missing-migrations", json=body).json()
    assert first["migrationId"] == second["migrationId"]
    assert "already" in second["message"]
    assert idle.get("/migrate").json()["count"] == 1
