"""Recent answers: worked out once for all who ask within a while, never kept when wrong, forgotten at a change."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from fastapi import Request, Response

from tests.unit.test_run_stream import until
from whimbrel.api import answer_cache
from whimbrel.api.answer_cache import FRESH, AnswerCache
from whimbrel.api.models.envelope import Answer
from whimbrel.errors import RunUnknown


class Counted:
    """Work that says how often it was done, and can be held."""

    def __init__(self) -> None:
        self.times, self.go_on, self.fails = 0, threading.Event(), False
        self.go_on.set()

    def __call__(self) -> tuple[int, Answer]:
        self.times = number = self.times + 1
        assert self.go_on.wait(10)
        if self.fails:
            raise RunUnknown("There is no such run.")
        return 200 + number, Answer(timestamp=str(number))


@pytest.fixture
def _lasting(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer is recent for longer than a machine stands still."""
    monkeypatch.setattr(answer_cache, "FRESH", 60.0)
    monkeypatch.setattr(answer_cache, "PATIENCE", 60.0)


def run(scenario: Callable[[AnswerCache, Counted], Awaitable[None]]) -> None:
    async def all_of_it() -> None:
        await scenario(AnswerCache(), Counted())

    asyncio.run(all_of_it())


@pytest.mark.usefixtures("_lasting")
def test_who_asks_at_once_shares_an_answer() -> None:
    async def scenario(recent: AnswerCache, work: Counted) -> None:
        work.go_on.clear()
        asking = [asyncio.create_task(recent.answer("one", work)) for _ in range(20)]
        await asyncio.sleep(0.05)
        work.go_on.set()
        answers = await asyncio.gather(*asking)
        assert work.times == 1
        assert {(each.status_code, bytes(each.body)) for each in answers} == {
            (201, b'{"success":true,"timestamp":"1"}')
        }
        assert (await recent.answer("one", work)).status_code == 201
        assert (await recent.answer("two", work)).status_code == 202

    run(scenario)


def test_an_answer_gets_old() -> None:
    async def scenario(recent: AnswerCache, work: Counted) -> None:
        await recent.answer("one", work)
        await asyncio.sleep(FRESH * 1.2)
        assert (await recent.answer("one", work)).status_code == 202

    run(scenario)


@pytest.mark.usefixtures("_lasting")
def test_an_error_goes_to_those_who_waited_and_is_not_kept() -> None:
    async def scenario(recent: AnswerCache, work: Counted) -> None:
        work.fails = True
        found = await asyncio.gather(
            recent.answer("one", work), recent.answer("one", work), return_exceptions=True
        )
        assert [type(each) for each in found] == [RunUnknown, RunUnknown]
        work.fails = False
        assert (await recent.answer("one", work)).status_code == 202

    run(scenario)


@pytest.mark.usefixtures("_lasting")
def test_who_leaves_takes_nothing_from_the_others() -> None:
    async def scenario(recent: AnswerCache, work: Counted) -> None:
        work.go_on.clear()
        gone, stays = (asyncio.create_task(recent.answer("one", work)) for _ in range(2))
        await asyncio.sleep(0.05)
        gone.cancel()
        work.go_on.set()
        assert (await stays).status_code == 201
        with pytest.raises(asyncio.CancelledError):
            await gone

    run(scenario)


@pytest.mark.usefixtures("_lasting")
def test_a_change_is_seen_by_whoever_made_it() -> None:
    """Even where an answer was under way when it happened."""

    async def scenario(recent: AnswerCache, work: Counted) -> None:
        await recent.answer("one", work)
        work.go_on.clear()
        old = asyncio.create_task(recent.answer("two", work))
        await until(lambda: work.times == 2)

        async def change(_: Request) -> Response:
            return Response("changed")

        assert (await recent.clear_after(Request({"type": "http"}), change)).body == b"changed"
        new = asyncio.create_task(recent.answer("two", work))
        await until(lambda: work.times == 3)
        work.go_on.set()
        assert [(await each).status_code for each in (old, new)] == [202, 203]
        assert (await recent.answer("one", work)).status_code == 204

    run(scenario)


def test_many_answers_do_not_stay_for_ever() -> None:
    async def scenario(recent: AnswerCache, work: Counted) -> None:
        for number in range(100):
            await recent.answer(number, work)
        await asyncio.sleep(FRESH * 1.2)
        await recent.answer("one", work)
        assert len(recent) == 1

    run(scenario)
