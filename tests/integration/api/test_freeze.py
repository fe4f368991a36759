"""Freezes, windows and `nice` over HTTP."""

from collections.abc import Sequence
from typing import Any

from starlette.testclient import TestClient

from tests.integration.api.conftest import TOKENS, Docs, seed, serving
from tests.servers.serve import eventually
from whimbrel.settings import Settings

NIGHT = "22:00-06:00 Europe/Berlin"
PEAK = {"from": "2099-12-20T00:00:00Z", "until": "2100-01-02T00:00:00+01:00", "note": "peak season"}


def test_freezes_are_made_shown_and_lifted(still: TestClient, database: Docs) -> None:
    found = still.get("/freeze").json()
    assert (found["frozen"], found["until"], found["freezes"]) == (False, None, [])
    made = still.post("/freeze", json={"note": "moving"})
    assert (made.status_code, made.json()["frozen"], made.json()["freeze"]["state"]) == (
        201,
        True,
        "in force",
    )
    planned = still.post("/freeze", json=PEAK).json()["freeze"]
    assert (planned["state"], planned["from"], planned["until"]) == (
        "planned", "2099-12-20T00:00:00.000Z", "2100-01-01T23:00:00.000Z",
    )  # fmt: skip
    assert still.post("/freeze", json=PEAK).json()["freeze"]["id"] == planned["id"], "the same is one"
    assert [row["note"] for row in still.get("/freeze").json()["freezes"]] == ["moving", "peak season"]
    lifted = still.delete("/freeze").json()
    assert ([row["note"] for row in lifted["lifted"]], lifted["frozen"]) == (["moving"], False)
    assert [row["id"] for row in still.delete(f"/freeze/{planned['id']}").json()["lifted"]] == [planned["id"]]
    assert still.delete(f"/freeze/{planned['id']}").status_code == 404
    assert still.delete("/freeze").json()["lifted"] == []
    assert still.post("/freeze").status_code == 201, "a bare call freezes now"
    whats = [
        row["what"].partition(" ")[0]
        for row in database["whimbrel_audit"].find({"what": {"$regex": "^freeze "}})
    ]
    assert len(whats) == 5


BAD: Sequence[tuple[dict[str, Any], int]] = (
    ({"until": "2020-01-01T00:00:00Z"}, 409), ({"from": "2099-01-02T00:00:00Z", "until": "2099-01-01T00:00:00Z"}, 409),
    ({"from": "2099-02-30T00:00:00Z"}, 409), ({"until": "9999-12-31T23:59:59Z"}, 409), ({"from": "0001-01-01T00:00:00+23:59"}, 409),
    ({"from": "tomorrow"}, 422), ({"from": "2099-01-01T00:00:00"}, 422), ({"from": 5}, 422), ({"note": "x" * 501}, 422), ({"to": None}, 422),
)  # fmt: skip


def test_what_cannot_be_a_freeze(still: TestClient) -> None:
    for body, status in BAD:
        answer = still.post("/freeze", json=body)
        assert answer.status_code == status, (body, answer.json())
        assert answer.json()["error"]
    assert still.get("/freeze").json()["freezes"] == []


def test_freezing_needs_a_token_that_may(settings: Settings) -> None:
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    with serving(settings, workers=0, tokens=tokens) as client:
        read = {"Authorization": f"Bearer {TOKENS['read']}"}
        assert client.get("/freeze").status_code == 401
        assert client.get("/freeze", headers=read).status_code == 200
        assert client.post("/freeze", headers=read).status_code == 403
        assert client.delete("/freeze", headers=read).status_code == 403


def test_windows_and_nice_of_runs_and_schedules(still: TestClient, database: Docs) -> None:
    seed(database, 10)
    run = still.post("/migrate", json={"windows": [NIGHT, "Sat 9:00-10:00 share=0.2"], "nice": 4}).json()[
        "migrationId"
    ]
    told = still.get(f"/migrate/status/{run}").json()["migration"]
    assert (told["windows"], told["nice"]) == ([NIGHT, "Sat 09:00-10:00 UTC share=0.2"], 4)
    assert told["reasons"] == [] or told["status"] == "running"
    changed = still.patch(f"/migrate/settings/{run}", json={"windows": [], "nice": 0}).json()
    assert (changed["windows"], changed["nice"], changed["priority"]) == ([], 0, 0)
    changed = still.patch(f"/migrate/settings/{run}", json={"windows": ["1:00-2:00 UTC"]}).json()
    assert (changed["windows"], changed["nice"]) == (["01:00-02:00 UTC"], 0)
    plan = {"migration": "some-model", "cron": "0 3 * * *", "windows": [NIGHT], "nice": 1}
    made = still.put("/migrate/scheduler/schedules/nightly", json=plan).json()["schedule"]
    assert (made["windows"], made["nice"]) == ([NIGHT], 1)


UNUSABLE: Sequence[dict[str, Any]] = (
    {"windows": ["25:00-06:00 UTC"]}, {"windows": ["22:00-22:00 UTC"]}, {"windows": ["22:00-06:00 Europe/Berlinn"]},
    {"windows": ["22:00-06:00 UTC share=2"]}, {"windows": NIGHT}, {"windows": None}, {"windows": [NIGHT] * 21}, {"nice": -1},
    {"nice": 101}, {"nice": None}, {"nice": "1"},
)  # fmt: skip


def test_bad_windows_and_nice_are_refused_everywhere(still: TestClient, database: Docs) -> None:
    seed(database, 3)
    run = still.post("/migrate").json()["migrationId"]
    for body in UNUSABLE:
        answers = [
            still.post("/migrate", json=body),
            still.patch(f"/migrate/settings/{run}", json=body),
            still.post(f"/migrate/verify/{run}", json=body),
            still.post(f"/migrate/rollback/{run}", json=body),
            still.post(f"/migrate/cleanup/{run}", json=body),
            still.put(
                "/migrate/scheduler/schedules/s",
                json={"migration": "some-model", "cron": "0 3 * * *", **body},
            ),
        ]
        assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
            (422, "invalid")
        ] * 6, body
        assert all(next(iter(body)) in answer.json()["error"] for answer in answers)


def test_a_run_that_is_frozen_says_so_and_goes_on_when_it_is_lifted(api: TestClient, database: Docs) -> None:
    """Through processes: the API, its worker, and the coordinator."""
    seed(database, 200)
    api.post("/freeze", json={"note": "moving"})
    trial = api.post("/queue/test-batch", json={"count": 2})
    assert (trial.status_code, trial.json()["code"]) == (409, "frozen")
    run = api.post("/migrate").json()["migrationId"]

    def told() -> dict[str, Any]:
        found: dict[str, Any] = api.get(f"/migrate/status/{run}").json()["migration"]
        return found

    eventually(lambda: told()["state"] == "waiting")
    found = told()
    assert (found["status"], found["share"], found["etaSeconds"], found["throughput"]) == (
        "running",
        0.0,
        None,
        0.0,
    )
    assert found["message"] == "Waits: frozen until somebody lifts it with `whimbrel unfreeze`: moving."
    assert [(row["signal"], row["level"], row["said"] in found["message"]) for row in found["reasons"]] == [
        ("freeze", "stop", True)
    ]
    assert api.get("/migrate").json()["migrations"][0]["state"] == "waiting"
    assert database["somemodels"].count_documents({"status": "success"}) == 0
    api.delete("/freeze")
    eventually(lambda: told()["status"] == "completed")
    assert (told()["changed"], told()["failed"], told()["state"]) == (200, 0, None)
