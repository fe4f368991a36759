"""The signals of the database's health over HTTP."""

from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, seed, serving
from tests.servers.serve import eventually
from whimbrel.domain.health.members import Member
from whimbrel.domain.health.verdict import Verdict
from whimbrel.settings import Settings


def test_signals_are_shown_and_changed(still: TestClient, database: Docs) -> None:
    found = still.get("/health/signals").json()
    assert (found["state"], found["share"], found["age"], found["history"]) == ("ok", 1.0, None, [])
    assert {"member-lag", "majority-write", "disk-used"} <= {row["name"] for row in found["signals"]}
    changed = still.patch("/health/signals/member-lag", json={"slow": 3, "ignoreSeconds": 60, "note": "why"})
    assert (changed.status_code, changed.json()["slow"], changed.json()["stop"]) == (200, 3.0, 5.0)
    assert changed.json()["ignoredUntil"]
    row = next(row for row in still.get("/health/signals").json()["signals"] if row["name"] == "member-lag")
    assert row["slow"] == 3.0
    again = still.patch("/health/signals/member-lag", json={"reset": True, "ignoreSeconds": 0}).json()
    assert (again["slow"], again["ignoredUntil"]) == (2.0, None)
    assert database["whimbrel_audit"].count_documents({"what": {"$regex": "member-lag"}}) >= 4


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("lag", {"slow": 3}, 404), ("lag", {"reset": True}, 404), ("member-lag", {"slow": None}, 422), ("member-lag", {"reset": False, "note": "why"}, 422), ("member-lag", {}, 422), ("member-lag", {"note": "only"}, 422), ("member-lag", {"slow": 9}, 409), ("member-lag", {"slow": 9, "reset": True, "ignoreSeconds": 60}, 409),
        ("member-lag", {"slow": -1}, 422), ("member-lag", {"ignoreSeconds": 1e9}, 422), ("new-primary", {"slow": 1}, 409), ("member-lag", {"slow": "3"}, 422),
    ],
)  # fmt: skip
def test_bad_changes_are_refused(refusing: TestClient, refused: Docs, name: str, body: dict[str, object], status: int) -> None:  # fmt: skip
    assert refusing.patch(f"/health/signals/{name}", json=body).status_code == status
    assert refused["whimbrel_health"].find_one({"_id": "settings"}) is None


def test_the_history_is_given_where_it_is_asked_for(still: TestClient) -> None:
    records = still.app.state.system.deployment.store.ledger.health  # type: ignore[attr-defined]
    records.keep(Verdict(share=0.5), {"share": 0.25, "level": "stop", "values": {"member-lag": 9.0}})
    seconds = still.get("/health/signals", params={"history": "seconds"}).json()["history"]
    minutes = still.get("/health/signals", params={"history": "minutes"}).json()["history"]
    assert ([row["share"] for row in seconds], [row["values"] for row in minutes]) == (
        [0.5],
        [{"member-lag": 9.0}],
    )
    assert still.get("/health/signals", params={"history": "hours"}).status_code == 422


def test_reading_needs_a_token_and_changing_one_that_may(settings: Settings) -> None:
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    with serving(settings, workers=0, tokens=tokens) as client:
        read = {"Authorization": f"Bearer {TOKENS['read']}"}
        assert client.get("/health/signals").status_code == 401
        assert client.get("/health/signals", headers=read).status_code == 200
        assert client.patch("/health/signals/member-lag", json={"slow": 3}, headers=read).status_code == 403


def test_own_checks_are_signals_and_preflight_lists_all(
    settings: Settings, database: Docs, tmp_path: Path
) -> None:
    """Of an address that nobody listens at: it was never read, and asks for nothing."""
    file = tmp_path / "checks.toml"
    file.write_text("[payments]\nurl = 'http://user:secret@127.0.0.1:1/health'\n")
    watched = {"whimbrel_health": "on", "whimbrel_health_checks": str(file), "whimbrel_health_ignore_members": "db9:27017"}  # fmt: skip
    seed(database, 20)
    with serving(settings.model_copy(update=watched), workers=0) as client:

        def sampled() -> bool:
            problems = [row["problem"] for row in client.get("/health/signals").json()["signals"]]
            return any("it cannot be asked" in (problem or "") for problem in problems)

        eventually(sampled)
        found = client.get("/health/signals").json()
        assert "secret" not in str(found)
        row = found["signals"][-1]
        assert (row["name"], row["level"], row["value"], row["stop"], row["grant"]) == ("payments", "unknown", None, 0.5, None)  # fmt: skip
        assert [member["host"] for member in found["leftOut"]] == ["db9:27017"]
        assert found["advice"] is None
        changed = client.patch("/health/signals/payments", json={"ignoreSeconds": 60})
        assert (changed.status_code, changed.json()["stop"]) == (200, 0.5)
        assert client.patch("/health/signals/payments", json={"slow": 1}).status_code == 409
        missing = client.patch("/health/signals/payment", json={"slow": 1})
        assert (missing.status_code, "payments" in missing.text) == (404, True)
        strict = client.post("/migrate", json={"strict": True})
        assert (strict.status_code, "[health]" in strict.text) == (409, True)
        dry, started = (client.post("/migrate", json={"dryRun": dry}).json() for dry in (True, False))
    for answer in (dry, started):
        found = [each for each in answer["warnings"] if each["check"] == "health"]
        assert [each["level"] for each in found] == ["unknown", "warning"]
        assert "it cannot be asked" in found[0]["detail"]["unread"]["payments"]


def test_the_history_is_given_in_as_few_points_as_are_asked_for(still: TestClient, database: Docs) -> None:
    records = still.app.state.system.deployment.store.ledger.health  # type: ignore[attr-defined]
    records.keep(Verdict(share=0.5), None)
    rows = database["whimbrel_health"]
    row = rows.find_one({"ring": "s"})
    assert row is not None
    rows.insert_many(
        [
            {**row, "_id": f"s:other {number}", "at": row["at"] - timedelta(seconds=number + 1)}
            for number in range(60)
        ]
    )
    asked: dict[str, str | int] = {"history": "seconds", "points": 90}
    assert len(still.get("/health/signals", params=asked).json()["history"]) == 7, "parts of ten seconds"
    assert len(still.get("/health/signals", params={"history": "seconds"}).json()["history"]) == 61
    assert still.get("/health/signals", params={**asked, "points": 9}).status_code == 422


def test_the_members_are_those_of_the_last_sample(still: TestClient) -> None:
    records = still.app.state.system.deployment.store.ledger.health  # type: ignore[attr-defined]
    records.keep(Verdict(members=(Member("a:1", "primary"), Member("b:1", "secondary", 0.4, 1.5))), None)
    assert still.get("/health/signals").json()["members"] == [
        {"host": "a:1", "standing": "primary", "lag": None, "silence": None, "why": None},
        {"host": "b:1", "standing": "secondary", "lag": 0.4, "silence": 1.5, "why": None},
    ]
