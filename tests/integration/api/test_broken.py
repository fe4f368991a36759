"""A migration that cannot be used is shown with its reason, and the others are served."""

from pathlib import Path

from tests.integration.api.conftest import Docs, serving
from whimbrel.settings import Settings

MIXED = """
from whimbrel import Migration
good = Migration(name="good", collection="things", filter={"n": {"$gt": 5}}, update={"$set": {"a": 1}}, undo=True, batch_size=70)
long = Migration(name="long", collection="other.things", filter={"n": {"$in": list(range(1000))}}, mark="filter", update={"$set": {"n": -1}})
where = Migration(name="where", collection="things", filter={"$where": "1"}, update={"$set": {"a": 1}})
"""
SAID = {
    "version": 1, "collection": "things", "database": None, "mark": "marker", "statusField": None, "declarative": True, "filter": {"n": {"$gt": 5}},
    "abridged": False, "undo": True, "batchSize": 70, "source": "mixed.py", "dependsOn": [],
}  # fmt: skip


def test_what_is_broken_is_listed_and_refused_with_its_reason(
    settings: Settings, tmp_path: Path, database: Docs
) -> None:
    (tmp_path / "mixed.py").write_text(MIXED)
    (tmp_path / "imports.py").write_text("import nowhere_to_be_found")
    with serving(settings, workers=0, source=str(tmp_path)) as client:
        found = client.get("/migrate/definitions").json()
        assert {each["name"] for each in found["migrations"]} == {"some-model", "good", "long"}
        loaded = {each["name"]: each for each in found["migrations"]}
        assert {name: loaded["good"][name] for name in SAID} == SAID
        assert [loaded[name]["ns"] for name in ("good", "long")] == [
            f"{database.name}.things",
            f"{database.name}.other.things",
        ]
        assert (loaded["long"]["filter"], loaded["long"]["abridged"], loaded["long"]["undo"]) == (
            None,
            True,
            False,
        )
        assert (loaded["some-model"]["source"], loaded["some-model"]["statusField"]) == ("Whimbrel", "status")
        broken = {each["name"]: each for each in found["broken"]}
        assert (broken[None]["source"], broken["where"]["source"]) == ("imports.py", "mixed.py")
        assert "nowhere_to_be_found" in broken[None]["reason"]
        assert "$where" in broken["where"]["reason"]
        refused = client.post("/migrate", json={"migration": "where"})
        assert (refused.status_code, refused.json()["code"]) == (422, "definition_invalid")
        assert "$where" in refused.json()["error"]


FORGETFUL = """
from whimbrel import migration

@migration(collection="things")
def forgetful(thing):
    thing["n"] = 1
"""


def test_a_function_without_an_answer_that_can_be_used_is_refused_unless_it_is_forced(
    settings: Settings, tmp_path: Path, database: Docs
) -> None:
    (tmp_path / "forgetful.py").write_text(FORGETFUL)
    database["things"].insert_one({"_id": 1})
    with serving(settings, workers=0, source=str(tmp_path / "forgetful.py")) as client:
        refused = client.post("/migrate", json={"migration": "forgetful"})
        assert (refused.status_code, refused.json()["code"]) == (422, "definition_invalid")
        assert "returned None" in refused.json()["error"]
        assert client.get("/migrate").json()["count"] == 0
        assert client.post("/migrate", json={"migration": "forgetful", "force": True}).status_code == 202
