"""Webhooks over HTTP: the list of deliveries, and a test that is sent at once."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from tests.integration.api.conftest import TOKENS, Docs, seed, serving
from tests.servers.receiver import Receiver, receiving
from tests.waiting import until
from whimbrel.settings import Settings

KEY = "a secret of the tests"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def with_webhooks(settings: Settings, receiver: Receiver) -> Settings:
    return settings.model_copy(update={
        "whimbrel_webhooks": SecretStr(receiver.url), "whimbrel_webhook_secret": SecretStr(KEY), "whimbrel_webhook_allow_private": True,
        "whimbrel_webhook_no_progress": 0.01,
    })  # fmt: skip


def test_what_runs_tell_is_sent_and_listed(settings: Settings, database: Docs, receiver: Receiver) -> None:
    seed(database, 20)
    with serving(with_webhooks(settings, receiver), workers=0) as client:
        run = client.post("/migrate", json={}).json()["migrationId"]
        until(lambda: "run.no_progress" in receiver.events)  # nobody works on it
        client.post(f"/migrate/pause/{run}")
        until(lambda: "run.paused" in receiver.events)
        until(lambda: all(each["state"] == "delivered" for each in client.get("/webhooks/deliveries").json()["deliveries"]))  # fmt: skip
        found = client.get("/webhooks/deliveries", params={"limit": 1}).json()
        assert (found["count"], found["deliveries"][0]["event"]) == (1, "run.paused")
        assert found["deliveries"][0] | {"createdAt": "", "endedAt": "", "receiverKey": "", "id": ""} == {
            "id": "", "eventId": receiver.ids[-1], "event": "run.paused", "migrationId": run, "receiver": receiver.url.partition("/hook")[0],
            "receiverKey": "", "state": "delivered", "tries": 1, "mostTries": 5, "answered": 204, "problem": None, "createdAt": "",
            "nextTryAt": None, "endedAt": "",
        }  # fmt: skip
        older = client.get(
            "/webhooks/deliveries", params={"cursor": found["nextCursor"], "state": "delivered"}
        ).json()
        assert [each["eventId"] for each in older["deliveries"]] == list(reversed(receiver.ids[:-1]))
        assert client.get("/webhooks/deliveries", params={"state": "failed"}).json()["deliveries"] == []
        assert client.get("/webhooks/deliveries", params={"cursor": "none"}).status_code == 422
        again = f"/webhooks/deliveries/{older['deliveries'][0]['id']}/resend"
        assert client.post(again).json()["code"] == "state_forbids"  # it was delivered
        assert client.post("/webhooks/deliveries/none/resend").json()["code"] == "delivery_unknown"
        heard = len(receiver.ids)
        database["whimbrel_deliveries"].update_one(
            {"_id": older["deliveries"][0]["id"]}, {"$set": {"state": "failed", "tries": 5}}
        )
        answer = client.post(again)
        assert (answer.status_code, answer.json()["delivery"]["id"]) == (202, older["deliveries"][0]["id"])
        until(lambda: receiver.ids[heard:] == [older["deliveries"][0]["eventId"]])


def test_a_test_says_what_came_of_it(settings: Settings, receiver: Receiver) -> None:
    with serving(with_webhooks(settings, receiver), workers=0) as client:
        receiver.answers = [500]
        for delivered, answered in ((False, 500), (True, 204)):
            found = client.post("/webhooks/test")
            assert found.status_code == 200
            (result,) = found.json()["results"]
            assert (result["delivered"], result["answered"]) == (delivered, answered)
        assert set(receiver.events) == {"webhook.test"}
        assert client.get("/webhooks/deliveries").json()["deliveries"] == []


def test_without_webhooks_there_is_nothing_to_test(settings: Settings) -> None:
    tokens = ",".join(f"{scope}:{token}" for scope, token in TOKENS.items())
    with serving(settings, workers=0, tokens=tokens) as client:
        read, operate = ({"authorization": f"Bearer {TOKENS[scope]}"} for scope in ("read", "operate"))
        refused = client.post("/webhooks/test", headers=operate)
        assert (refused.status_code, refused.json()["code"]) == (409, "state_forbids")
        assert "WHIMBREL_WEBHOOKS" in refused.json()["error"]
        assert client.post("/webhooks/test", headers=read).status_code == 403
        assert client.post("/webhooks/deliveries/one/resend", headers=read).status_code == 403
        assert (
            "WHIMBREL_WEBHOOKS"
            in client.post("/webhooks/deliveries/one/resend", headers=operate).json()["error"]
        )
        assert client.get("/webhooks/deliveries").status_code == 401
        assert client.get("/webhooks/deliveries", headers=read).status_code == 200
