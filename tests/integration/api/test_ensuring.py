"""What a migration depends on, and how far it is, over HTTP."""

from pathlib import Path

from starlette.testclient import TestClient

from tests.integration.api.conftest import Docs, ended, serving
from tests.servers.serve import eventually
from whimbrel.settings import Settings

FILE = """
from whimbrel import Migration

first = Migration(name="first", collection="things", update={"$inc": {"first": 1}})
second = Migration(name="second", collection="things", update={"$inc": {"second": 1}}, depends_on=["first"])
base = Migration(name="base", collection="things", update={"$inc": {"base": 1}})
roof = Migration(name="roof", collection="things", update={"$inc": {"roof": 1}}, depends_on=["base"])
"""


def test_a_run_is_refused_until_what_it_depends_on_is_complete(
    settings: Settings, database: Docs, tmp_path: Path
) -> None:
    (tmp_path / "file.py").write_text(FILE)
    database["things"].insert_many({"_id": n} for n in range(20))
    with serving(settings, workers=1, source=str(tmp_path / "file.py")) as api:
        defined = {
            each["name"]: each["dependsOn"] for each in api.get("/migrate/definitions").json()["migrations"]
        }
        assert defined == {"some-model": [], "first": [], "second": ["first"], "base": [], "roof": ["base"]}
        for path, body in (("/migrate", {}), ("/migrate/bulk", {"ids": [1, 2]})):
            refused = api.post(path, json={"migration": "second", **body})
            assert (refused.status_code, refused.json()["code"]) == (409, "dependency_incomplete")
        plan = api.post("/migrate", json={"migration": "second", "dryRun": True}).json()
        assert [each["check"] for each in plan["warnings"] if each["level"] == "error"] == ["dependencies"]
        told = api.get("/migrate/ensure/second").json()
        assert (told["state"], told["ensured"], told["migrationId"]) == ("not_started", False, None)
        assert [(each["migration"], each["complete"]) for each in told["dependsOn"]] == [("first", False)]
        run = ended(api, api.post("/migrate", json={"migration": "first"}).json()["migrationId"])[
            "migrationId"
        ]
        told = api.get("/migrate/ensure/first").json()
        assert (told["state"], told["complete"], told["ensured"], told["migrationId"]) == (
            "complete",
            True,
            False,
            run,
        )
        checking = ended(api, api.post(f"/migrate/verify/{run}").json()["migrationId"])["migrationId"]
        told = api.get("/migrate/ensure/first?version=1").json()
        assert (told["state"], told["ensured"], told["verificationId"]) == ("verified", True, checking)
        assert api.get("/migrate/ensure/first?version=2").json()["state"] == "not_started"
        assert api.post("/migrate", json={"migration": "second"}).status_code == 202
        assert api.get("/migrate/ensure/nix").status_code == 404
        assert api.get("/migrate/ensure/first?version=0").status_code == 422
        _finish_step_by_step(api, database)


def _finish_step_by_step(api: TestClient, database: Docs) -> None:
    steps = []
    while True:
        answer = api.post("/migrate/ensure/roof")
        told = answer.json()
        steps.append((answer.status_code, told["stepMigration"], told["step"], told["ensured"]))
        if told["step"] is None:
            break
        ended(api, told["stepMigrationId"])
    assert steps == [
        (202, "base", "start", False), (202, "base", "verify", False), (202, "roof", "start", False), (202, "roof", "verify", False),
        (200, None, None, True),
    ]  # fmt: skip
    assert database["things"].count_documents({"base": 1, "roof": 1}) == 20


def test_a_step_is_begun_once_and_checked_as_a_start_is(still: TestClient, database: Docs) -> None:
    database["somemodels"].insert_one({"status": "pending", "data": {}})
    for path, body, status in (
        ("none", {}, 404),
        ("some-model", {"stages": ["1", "100%"]}, 422),
        ("some-model", {"strict": 1}, 422),
    ):
        assert still.post(f"/migrate/ensure/{path}", json=body).status_code == status
    with database["somemodels"].watch():  # which preflight warns of
        refused = still.post("/migrate/ensure/some-model", json={"strict": True})
    assert (refused.status_code, refused.json()["code"]) == (409, "warnings_refused")
    assert database["whimbrel_runs"].count_documents({}) == 0
    first, second = (still.post("/migrate/ensure/some-model").json() for _ in range(2))
    assert (first["step"], second["step"], second["state"]) == ("start", "wait", "running")
    assert first["stepMigrationId"] == second["stepMigrationId"] == second["migrationId"]
    assert database["whimbrel_runs"].count_documents({}) == 1
    still.post(f"/migrate/pause/{first['stepMigrationId']}")
    eventually(lambda: still.get("/migrate/ensure/some-model").json()["state"] == "paused")
    third = still.post("/migrate/ensure/some-model").json()
    assert (third["step"], third["stepMigrationId"]) == ("resume", first["stepMigrationId"])
