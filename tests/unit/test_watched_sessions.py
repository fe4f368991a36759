"""The watch over sessions that something is sent to: one look for all of them, and none where there are none."""

import asyncio
import threading
from collections.abc import Collection

import pytest
from starlette.types import Message, Receive, Scope, Send

from whimbrel.api import watched_sessions as module
from whimbrel.api.watched_sessions import WatchedSessions
from whimbrel.errors import DatabaseUnreachable


async def _receive() -> Message:
    return {"type": "http.disconnect"}


async def _for_ever(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.Event().wait()


async def _serve(watched: WatchedSessions, key: str) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await watched.serve(key, _for_ever, {"type": "http"}, _receive, send)
    return sent


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)


def test_all_that_is_sent_costs_one_look() -> None:
    looked: list[set[str]] = []

    def look(keys: Collection[str]) -> set[str]:
        looked.append(set(keys))
        if len(looked) == 1:
            return set(keys)
        if len(looked) == 2:
            raise DatabaseUnreachable("It does not answer.")  # nobody knows: all goes on
        return set()

    async def scenario() -> None:
        watched = WatchedSessions(look)
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(_serve(watched, f"s{number % 3}") for number in range(30)))
        assert looked == [{"s0", "s1", "s2"}] * 3
        for sent in found:
            assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
            assert sent[-1]["more_body"] is False

    asyncio.run(scenario())


def test_only_what_is_sent_to_the_ended_session_ends() -> None:
    second_look = threading.Event()
    looks = 0

    def look(keys: Collection[str]) -> set[str]:
        nonlocal looks
        looks += 1
        if looks > 1:
            second_look.set()
        return {key for key in keys if key == "good"}

    async def scenario() -> None:
        watched = WatchedSessions(look)
        async with asyncio.timeout(60):
            good = asyncio.create_task(_serve(watched, "good"))
            await _serve(watched, "ended")
            await asyncio.to_thread(second_look.wait, 30)
            assert not good.done()
            good.cancel()

    asyncio.run(scenario())
