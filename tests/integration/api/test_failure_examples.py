"""An example of a cause over HTTP: the stack, and the document's values, bounded, whatever the document holds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, ended, serving
from whimbrel.settings import Settings

SOURCE = """
from whimbrel import migration

@migration(collection="things", max_attempts=1, undo=True)
def picky(thing):
    if thing["kind"] == "bad":
        raise ValueError("no")
    if thing["kind"] == "large":
        raise OSError("too large")
    return {"$set": {"kind": "good"}}
"""
MARKUP = "<img src=x onerror=alert(1)> \x1b[31m \"'"


@pytest.fixture
def picky(settings: Settings, database: Docs, tmp_path: Path) -> Iterator[TestClient]:
    source = tmp_path / "picky.py"
    source.write_text(SOURCE)
    database["things"].insert_one({"_id": MARKUP, "kind": "bad", MARKUP: {"deep": [1, 2.5, MARKUP]}})
    database["things"].insert_one({"_id": 2, "kind": "large", "blob": b"x" * 100_000, "small": 1})
    database["things"].insert_one({"_id": 3, "kind": "fine"})
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    with serving(settings, workers=1, source=str(source), tokens=tokens) as client:
        client.headers["Authorization"] = f"Bearer {TOKENS['operate']}"
        yield client


def test_an_example_has_the_stack_and_the_values_of_its_document(picky: TestClient, database: Docs) -> None:
    run = ended(picky, picky.post("/migrate", json={"migration": "picky"}).json()["migrationId"])
    path = f"/migrate/failures/{run['migrationId']}"
    groups = {each["type"]: each for each in picky.get(path).json()["groups"]}
    for group in groups.values():
        assert group["firstAt"] <= group["lastAt"]
        assert sum(group["trend"]["numbers"]) == 1

    bad = picky.get(f"{path}/example", params={"group": groups["ValueError"]["group"]}).json()
    assert bad["failure"]["id"] == MARKUP
    assert "picky.py" in bad["failure"]["traceback"]
    assert 'raise ValueError("no")' in bad["failure"]["traceback"]
    assert bad["document"]["now"] == {"_id": MARKUP, "kind": "bad", MARKUP: {"deep": [1, 2.5, MARKUP]}}
    assert (bad["document"]["before"], bad["document"]["leftOut"]) == (None, [])
    assert "before-image" in bad["document"]["why"]

    large = picky.get(f"{path}/example", params={"group": groups["OSError"]["signature"]}).json()["document"]
    assert large["now"] == {"_id": 2, "kind": "large", "small": 1}
    assert [each["name"] for each in large["leftOut"]] == ["blob"]
    assert large["leftOut"][0]["bytes"] >= 100_000

    database["things"].delete_one({"_id": 2})
    gone = picky.get(f"{path}/example", params={"group": groups["OSError"]["group"]}).json()["document"]
    assert (gone["now"], gone["why"]) == (None, "There is no such document any more.")

    read = {"Authorization": f"Bearer {TOKENS['read']}"}
    refused = picky.get(f"{path}/example", params={"group": groups["OSError"]["group"]}, headers=read)
    assert refused.status_code == 403
    unknown = picky.get(f"{path}/example", params={"group": "ffffffff"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "group_unknown")
