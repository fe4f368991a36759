"""Runs over named documents, over HTTP."""

from typing import Any

import pytest
from bson import ObjectId
from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, seed


def test_the_documents_named_are_migrated(both: TestClient, database: Docs) -> None:
    seed(database, 50)
    seed(database, 1, status="success")
    things = database["somemodels"]
    wanted = [each["_id"] for each in things.find({"status": "pending"}).limit(20)]
    done = things.find_one({"status": "success"}) or {}
    missing = ObjectId()
    ids = [{"$oid": str(each)} for each in [*wanted, done["_id"], missing]]
    told = both.post("/migrate/bulk", json={"ids": ids, "batchSize": 7})
    assert told.status_code == 202
    answer = told.json()
    assert (answer["totalDocuments"], answer["eligibleDocuments"], answer["estimatedBatches"]) == (21, 20, 3)
    assert (answer["unknownIds"], answer["unknown"]) == (1, [{"$oid": str(missing)}])
    run = ended(both, answer["migrationId"])
    assert (run["status"], run["changed"], run["failed"], run["progress"]) == ("completed", 20, 0, 100.0)
    after = [each["_id"] for each in things.find({"processedBy": {"$regex": f"^{run['migrationId']}"}})]
    assert sorted(after) == sorted(wanted)


def test_plain_hexadecimal_ids_are_object_ids_where_no_document_has_that_text(
    still: TestClient, database: Docs
) -> None:
    things, plain, both = database["somemodels"], ObjectId(), ObjectId()
    text, nobody = str(ObjectId()), str(ObjectId())
    things.insert_many({"_id": each, "status": "pending"} for each in (plain, text, both, str(both)))
    ids = [str(plain).upper(), {"$oid": str(plain)}, text, str(both), nobody, "no hex", "a" * 12]
    told = still.post("/migrate/bulk", json={"ids": ids}).json()
    assert (told["totalDocuments"], told["unknownIds"], told["unknown"]) == (
        3,
        3,
        [nobody, "no hex", "a" * 12],
    )
    (row,) = database["whimbrel_batches"].find({"run": told["migrationId"], "ids": {"$type": "array"}})
    assert {each["_id"] for each in row["ids"]} == {plain, text, str(both)}, "the text, where both are there"


def test_a_dry_run_and_nothing_left(still: TestClient, database: Docs) -> None:
    database["somemodels"].insert_many([{"_id": i, "status": "pending"} for i in range(5)])
    database["somemodels"].insert_one({"_id": "done", "status": "success"})
    told = still.post("/migrate/bulk", json={"ids": [0, 1, "done", "x"], "dryRun": True})
    assert (told.status_code, told.json()["migrationId"], told.json()["dryRun"]) == (200, None, True)
    assert (told.json()["totalDocuments"], told.json()["eligibleDocuments"], told.json()["unknown"]) == (
        3,
        2,
        ["x"],
    )
    told = still.post("/migrate/bulk", json={"ids": ["done", "x"]})
    assert (told.status_code, told.json()["migrationId"]) == (200, None)
    assert "Nothing is left to do" in told.json()["message"]
    assert still.get("/migrate").json()["count"] == 0


@pytest.mark.parametrize(
    ("body", "status", "code", "field"),
    [
        (None, 422, "invalid", "body"),
        ({"ids": []}, 422, "invalid", "body.ids"),
        ({"ids": "abc"}, 422, "invalid", "body.ids"),
        ({"ids": list(range(100_001))}, 422, "invalid", "body.ids"),
        ({"ids": [1, {"$oid": "nonsense"}]}, 422, "invalid", "body.ids.1"),
        ({"ids": [[1]]}, 422, "invalid", "body.ids.0"),
        ({"ids": [{"$regularExpression": {"pattern": ".*", "options": ""}}]}, 422, "invalid", "body.ids.0"),
        ({"ids": [2**70]}, 422, "invalid", "body.ids.0"),
        ({"ids": [1], "batchSize": 0}, 422, "invalid", "body.batchSize"),
        ({"ids": [1], "filters": {}}, 422, "invalid", "body.filters"),
        ({"ids": [1], "migration": "nope"}, 404, "migration_unknown", None),
        ({"ids": [{"$gt": 0}]}, 422, "invalid", "body.ids.0"),
        ({"ids": [1, {"$regex": "a"}]}, 422, "invalid", "body.ids.1"),
        ({"ids": [{"a": 1, "$in": [1]}]}, 422, "invalid", "body.ids.0"),
    ],
)
def test_what_cannot_be_named(
    refusing: TestClient, refused: Docs, body: Any, status: int, code: str, field: str | None
) -> None:
    seed(refused, 3)
    answer = refusing.post("/migrate/bulk", json=body)
    told = answer.json()
    assert (answer.status_code, told["code"]) == (status, code), told
    if field is not None:
        assert told["details"][0]["field"] == field
    assert refusing.get("/migrate").json()["count"] == 0
