"""Lists of runs and the audit over HTTP: several states at once, two orders, short lines, and what cannot be asked."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, serving
from whimbrel.settings import Settings

BAD = [
    ("/migrate", {"status": "lost"}, "query.status"),
    ("/migrate", {"status": "failed,lost"}, "query.status"),
    ("/migrate", {"kind": "undo"}, "query.kind"),
    ("/migrate", {"order": "oldest"}, "query.order"),
    ("/migrate", {"from": "yesterday"}, "query.from"),
    ("/migrate", {"to": "2026-02-30"}, "query.to"),
    ("/migrate", {"from": "2026-11-03", "to": "2026-11-03"}, "`to` must be later"),
    ("/migrate", {"limit": ["1", "2"]}, "query.limit"),
    ("/migrate", {"state": "running"}, "query.state"),
    ("/audit", {"action": "all"}, "query.action"),
    ("/audit", {"from": "2026-13-01"}, "query.from"),
    ("/audit", {"cursor": "x"}, "cursor"),
    ("/audit", {"actor": ["a", "b"]}, "query.actor"),
    ("/migrate/stream", {"lastEventId": "x" * 101}, "query.lastEventId"),
]


@pytest.mark.parametrize(("path", "params", "named"), BAD, ids=str)
def test_what_cannot_be_asked(refusing: TestClient, path: str, params: dict[str, Any], named: str) -> None:
    answer = refusing.get(path, params=params)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert named in answer.text


def test_runs_by_state_time_and_order(still: TestClient, database: Docs) -> None:
    still.post("/seed/job-status", json={"count": 20})
    whole = still.get("/migrate").json()["migrations"]
    assert len(whole) == 20

    def found(**params: Any) -> list[str]:
        answer = still.get("/migrate", params=params)
        assert answer.status_code == 200, answer.text
        return [row["migrationId"] for row in answer.json()["migrations"]]

    def expected(*states: str) -> list[str]:
        return [row["migrationId"] for row in whole if row["status"] in states]

    ended = ("completed", "completed_with_failures", "cancelled", "failed")
    assert found(status=["failed", "paused"]) == expected("failed", "paused")
    assert found(status="failed,paused") == expected("failed", "paused")
    assert found(order="active") == expected("paused") + expected(*ended)
    assert found(order="active", status=["failed", "paused"]) == expected("paused") + expected("failed")
    assert found(migration="people (sample)", kind="migration", collection=whole[0]["collection"].partition(".")[2]) == [
        row["migrationId"] for row in whole if (row["migration"], row["collection"]) == ("people (sample)", whole[0]["collection"])
    ]  # fmt: skip
    assert found(collection=f"{database.name}.elsewhere") == []
    since, until = whole[12]["createdAt"], whole[3]["createdAt"]
    assert found(**{"from": since, "to": until}) == [
        row["migrationId"] for row in whole if since <= row["createdAt"] < until
    ]
    assert found(to=since.replace("Z", "+00:00")) == found(to=since)

    cursors = {
        order: still.get("/migrate", params={"limit": 1, "order": order}).json()["nextCursor"]
        for order in ("newest", "active")
    }
    assert found(order="active", cursor=cursors["active"], limit=2) == found(order="active")[1:3]
    for order, cursor in (
        ("newest", cursors["active"]),
        ("active", cursors["newest"]),
        ("active", f"7.{cursors['newest']}"),
        ("active", "0."),
    ):
        answer = still.get("/migrate", params={"order": order, "cursor": cursor})
        assert (answer.status_code, "cursor" in answer.json()["error"]) == (422, True)


def test_a_line_is_short_and_says_what_the_row_says(still: TestClient) -> None:
    still.post("/seed/job-status", json={"count": 10})
    lines = still.get("/migrate", params={"slim": True})
    rows = still.get("/migrate").json()["migrations"]
    own = {"reason", "reasonSince", "openFailures", "deadFailures"}
    assert len(rows) == len(lines.json()["migrations"]) == 10
    assert len(lines.content) < 10 * 1000
    for line, row in zip(lines.json()["migrations"], rows, strict=True):
        assert own < line.keys()
        shared = line.keys() - own
        assert {name: line[name] for name in shared} == {name: row[name] for name in shared}
        assert line["reason"] == (row["error"] or row["message"] or None)
        failures = still.get(f"/migrate/failures/{line['migrationId']}").json()
        assert (line["openFailures"], line["deadFailures"]) == (failures["open"], failures["dead"])
    assert any(line["deadFailures"] for line in lines.json()["migrations"])


def test_who_did_what(settings: Settings, database: Docs) -> None:
    tokens = f"anna=operate:{TOKENS['operate']},bert=operate:{'b' * 20},read:{TOKENS['read']}"
    anna, bert, reader = (
        {"Authorization": f"Bearer {token}"} for token in (TOKENS["operate"], "b" * 20, TOKENS["read"])
    )
    database["somemodels"].insert_many([{"status": "pending", "data": {}} for _ in range(3)])
    with serving(settings, workers=0, tokens=tokens) as client:
        assert client.get("/audit").status_code == 401
        first, second = (client.post("/migrate", headers=who).json()["migrationId"] for who in (anna, bert))
        assert client.post(f"/migrate/pause/{second}", headers=anna).status_code == 200
        assert client.post(f"/migrate/resume/{second}", headers=bert).status_code == 200
        assert client.post(f"/migrate/resume/{second}", headers=bert).status_code == 409

        def told(path: str = "/audit", **params: Any) -> list[tuple[str, str]]:
            answer = client.get(path, params={"action": ["run", "request"], **params}, headers=reader)
            assert answer.status_code == 200, answer.text
            return [
                (row["actor"], row["what"].split(" ")[1].rpartition(f"/{second}")[0] or row["what"])
                for row in answer.json()["entries"]
            ]

        of_bert = [
            ("bert", "/migrate/resume"), ("bert", "/migrate/resume"), ("bert", "run queued"), ("bert", "POST /migrate"), ("bert", "run added"),
        ]  # fmt: skip
        assert told(actor="bert") == of_bert
        assert told(actor="api:bert@testclient") == of_bert
        assert told(actor="bert", action="run") == [each for each in of_bert if each[1].startswith("run")]
        assert told(actor="anna", run=second) == [("anna", "/migrate/pause"), ("anna", "run paused")]
        assert told(f"/migrate/audit/{second}", actor="anna") == told(actor="anna", run=second)
        assert [each for each in told(run=first) if each[0] == "bert"] == []
        whole = client.get("/audit", headers=reader).json()["entries"]
        (refused,) = [row for row in whole if row["why"] == "answered 409"]
        assert (refused["who"], refused["action"], refused["migrationId"]) == (
            "api:bert@testclient",
            "request",
            second,
        )
        page = client.get("/audit", params={"limit": 2}, headers=reader).json()
        rest = client.get("/audit", params={"limit": 2, "cursor": page["nextCursor"]}, headers=reader).json()
        assert page["entries"] + rest["entries"] == whole[:4]
        assert client.get("/migrate/audit/none", headers=reader).status_code == 404
