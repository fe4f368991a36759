"""More than can be answered: what is answered is answered soon, the rest hears so at once, and the probes are always heard."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message, Receive, Scope, Send

from whimbrel.api.middleware.admission_control import AdmissionControl, WaitingRoom


class Work:
    """An application whose requests end when they are told to."""

    def __init__(self, kind: bytes = b"application/json", length: bytes = b"2") -> None:
        self.headers = [(b"content-type", kind), (b"content-length", length)]
        self.inside, self.begun, self.go_on, self.sent = 0, 0, asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        self.inside, self.begun = self.inside + 1, self.begun + 1
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await self.sent.wait()
        await send({"type": "http.response.body", "body": b"{}"})
        self.inside -= 1


class Door:
    """Asked by `ask`, it tells the status, as soon as there is one."""

    def __init__(self, work: Work) -> None:
        self._admission = AdmissionControl(work)
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, method: str, path: str) -> "asyncio.Future[Message]":
        told = asyncio.get_running_loop().create_future()

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                told.set_result(message)

        scope = {"type": "http", "method": method, "path": path, "headers": []}
        self.tasks.append(asyncio.create_task(self._admission(scope, _nothing, send)))
        return told


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(within())


async def settled() -> None:
    """All tasks have gone as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_more_reads_than_there_is_room_for_are_sent_away_and_others_are_not() -> None:
    async def scenario() -> None:
        work = Work()
        door = Door(work)
        work.sent.set()
        first = [door.ask("GET", "/migrate") for _ in range(6)]
        await settled()
        late = [door.ask("GET", "/migrate") for _ in range(100)]
        refused = await late[-1]
        assert refused["status"] == 503
        assert dict(refused["headers"])[b"retry-after"] == b"1"
        assert work.begun == 6
        others = [
            door.ask("GET", "/health/live"),
            door.ask("GET", "/health/ready"),
            door.ask("POST", "/migrate"),
        ]
        await settled()
        assert work.begun == 9
        statuses = [(await each)["status"] for each in late]  # those that waited were not let in in time
        assert statuses == [503] * 100
        work.go_on.set()
        assert [(await each)["status"] for each in (*first, *others)] == [200] * 9
        await asyncio.gather(*door.tasks)
        assert (work.begun, work.inside) == (9, 0)  # what was sent away was never begun
        assert (await door.ask("GET", "/migrate"))["status"] == 200  # at once as ever

    run(scenario)


def test_whoever_asks_for_metrics_again_and_again_is_not_in_the_way_of_probes() -> None:
    """Both are open to all who reach the port."""

    async def scenario() -> None:
        work = Work()
        door = Door(work)
        work.sent.set()
        flood = [door.ask("GET", "/metrics") for _ in range(200)]
        await settled()
        probes = [door.ask("GET", path) for path in ("/health/ready", "/health", "/health/live")]
        await settled()
        assert work.begun == 2 + len(probes)
        work.go_on.set()
        assert [(await each)["status"] for each in probes] == [200] * 3
        assert sorted([(await each)["status"] for each in flood]) == [200] * 10 + [503] * 190
        await asyncio.gather(*door.tasks)

    run(scenario)


@pytest.mark.parametrize(
    ("kind", "length", "begun"),
    [
        (b"text/event-stream", b"", 7),
        (b"application/json", b"2000", 7),
        (b"application/json", b"9000000", 6),
    ],
)
def test_whoever_does_not_read_holds_no_room_but_for_large_answers(
    kind: bytes, length: bytes, begun: int
) -> None:
    async def scenario() -> None:
        work = Work(kind, length)
        door = Door(work)
        work.go_on.set()
        for each in [door.ask("GET", "/migrate") for _ in range(6)]:
            await each
        door.ask("GET", "/migrate")
        await settled()
        assert work.begun == begun
        work.sent.set()
        await asyncio.gather(*door.tasks)

    run(scenario)


def test_who_waits_comes_in_by_turns() -> None:
    async def scenario() -> None:
        room, order = WaitingRoom(at_once=1, waiting=3, patience=60), list[int]()
        assert await room.enter()

        async def come(number: int) -> None:
            assert await room.enter()
            order.append(number)
            room.leave()

        waiting = [asyncio.create_task(come(number)) for number in range(3)]
        await settled()
        assert not await room.enter()  # the door is full too
        waiting[1].cancel()
        await settled()
        room.leave()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert order == [0, 2]
        assert await room.enter()

    run(scenario)


def test_a_place_is_not_lost_with_who_gives_up() -> None:
    async def scenario() -> None:
        room = WaitingRoom(at_once=1, waiting=5, patience=0.01)
        assert await room.enter()
        assert [await room.enter() for _ in range(3)] == [False] * 3
        gone = asyncio.create_task(room.enter())
        await settled()
        room.leave()  # it is let in,
        gone.cancel()  # and is gone at that moment
        await asyncio.gather(gone, return_exceptions=True)
        assert await room.enter()

    run(scenario)
