"""What a migration depends on, and how far it is, over HTTP."""

from pathlib import Path

from tests.integration.api.conftest import Docs, ended, serving
from whimbrel.settings import Settings

FILE = """
from whimbrel import Migration

first = Migration(name="first", collection="things", update={"$inc": {"first": 1}})
second = Migration(name="second", collection="things", update={"$inc": {"second": 1}}, depends_on=["first"])
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
        assert defined == {"some-model": [], "first": [], "second": ["first"]}
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
