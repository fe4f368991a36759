"""Event streams: however many watch, the ledger is looked at as if it were one; and there is an end to their number and their time."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator

import pytest
from starlette.types import Message

from whimbrel.api import event_streams as module
from whimbrel.api.event_streams import OVER, Event, EventStreams, Look
from whimbrel.api.http_errors import ApiError
from whimbrel.errors import RunUnknown, Transient, WhimbrelError


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(within())


def streams(
    most: int = 100, seconds: float = 3600, leaving: Callable[[], bool] = lambda: False
) -> EventStreams:
    return EventStreams(most, seconds, leaving)


async def watch(them: EventStreams, look: Look, seen: Callable[[str], None] = lambda _: None) -> list[str]:
    """All that one stream of this key is told, each `seen` at its time."""
    told = []
    with them.place("one", 0.001, look) as feed:
        await them.first(feed)
        async for text in them.events(feed):
            told.append(text)
            seen(text)
    return told


def test_a_hundred_who_watch_are_one_look() -> None:
    async def scenario() -> None:
        looks, heard, all_heard = 0, 0, threading.Event()

        def look() -> Event:
            nonlocal looks
            looks += 1
            if looks == 1:
                return Event("progress", "a")
            assert all_heard.wait(30)  # nobody has looked in between
            return Event("end", "b", last=True)

        def seen(text: str) -> None:
            nonlocal heard
            heard += 1
            if heard == 100:
                all_heard.set()

        them = streams()
        told = await asyncio.gather(*(watch(them, look, seen) for _ in range(100)))
        assert told == [["event: progress\ndata: a\n\n", "event: end\ndata: b\n\n"]] * 100
        assert (looks, len(them)) == (2, 0)

    run(scenario)


def test_what_has_not_changed_is_not_told_again() -> None:
    async def scenario() -> None:
        found = iter(["a", "a", "a", "b", "b"])

        def look() -> Event:
            data = next(found, None)
            return Event("end", "c", last=True) if data is None else Event("progress", data)

        texts = [each.split("data: ")[1].strip() for each in await watch(streams(), look)]
        assert texts[-1] == "c"
        assert texts == sorted(set(texts))

    run(scenario)


def test_more_than_there_are_places_for_are_told_when_to_come_back() -> None:
    async def scenario() -> None:
        them = streams(most=2)
        look: Look = lambda: Event("progress", "a")  # noqa: E731
        with them.place("one", 1, look), them.place("two", 1, look):
            with pytest.raises(ApiError) as caught, them.place("three", 1, look):
                pass
            assert (caught.value.status, caught.value.word) == (503, "too_many_streams")
            assert caught.value.retry_after
            assert len(them) == 2
        with them.place("three", 1, look):
            assert len(them) == 1

    run(scenario)


async def _gone() -> Message:
    return {"type": "http.disconnect"}


def test_whoever_goes_gives_the_place_back() -> None:
    """Also before anything was sent, and where nothing could be."""

    async def scenario() -> None:
        them = streams(most=1)

        async def send(_: Message) -> None:
            return

        def fails() -> Event:
            raise RunUnknown("There is none.")

        for _ in range(3):
            answer = them.response("one", 0.001, lambda: Event("progress", "a"))
            await answer({"type": "http", "method": "GET", "asgi": {"spec_version": "2.3"}}, _gone, send)
            assert len(them) == 0
        with pytest.raises(RunUnknown):
            await them.response("two", 0.001, fails)({"type": "http", "method": "GET"}, _gone, send)
        assert len(them) == 0

    run(scenario)


def test_none_lasts_for_ever_and_a_silent_one_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.01)

    async def scenario() -> None:
        told = await watch(streams(seconds=0.1), lambda: Event("progress", "a"))
        assert told[0] == "event: progress\ndata: a\n\n"
        assert told[-1] == OVER
        assert set(told[1:-1]) <= {": it goes on\n\n"}

    run(scenario)


def test_all_end_when_the_server_does() -> None:
    async def scenario() -> None:
        leaving = False

        def seen(_: str) -> None:
            nonlocal leaving
            leaving = True

        told = await watch(streams(leaving=lambda: leaving), lambda: Event("progress", "a"), seen)
        assert told == ["event: progress\ndata: a\n\n"]

    run(scenario)


def test_trouble_is_told_and_what_has_passed_is_waited_for() -> None:
    async def scenario() -> None:
        troubles: Iterator[WhimbrelError | None] = iter(
            [None, Transient("no answer"), None, RunUnknown("It is gone.")]
        )

        def look() -> Event:
            trouble = next(troubles)
            if trouble is not None:
                raise trouble
            return Event("progress", "a")

        told = await watch(streams(), look)
        # A slow reader gets the newest only.
        assert [each for each in told if "progress" in each or "no answer" in each] == told[:-1]
        assert told[-1].startswith("event: error")
        assert "It is gone." in told[-1]

    run(scenario)
