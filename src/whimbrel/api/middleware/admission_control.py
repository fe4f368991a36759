"""Limits how many requests are served at a time, and how many wait for how long; refuses all others at once.

Without this, all requests would begin, none would end in time, and clients would be gone when the answers come.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whimbrel.api.http_errors import error_answer
from whimbrel.api.middleware.rate_limits import costly

LIVE: Final = "/health/live"  # costs nothing, and shows that the process lives, so it is always answered
METRICS: Final = "/metrics"
PROBES: Final = frozenset({"/health", "/health/ready", METRICS})
FILES: Final = "/dashboard/static/"
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PAUSE: Final = 1  # seconds after which a refused client may try again
AT_ONCE_SENT = 256 * 1024  # bytes of an answer that fit in the system's buffers
TOLD = (
    f"Whimbrel has more requests than it can answer in time. Nothing was done. Try again in {PAUSE} second."
)


class WaitingRoom:
    """Admits `at_once` requests; `waiting` more wait for up to `patience` seconds."""

    def __init__(self, at_once: int, waiting: int, patience: float) -> None:
        self._free, self._most, self._patience = at_once, waiting, patience
        self._queue: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> bool:
        """Waits for a place; returns whether there was one in time. An admitted request must `leave`."""
        if self._free:
            self._free -= 1
            return True
        if len(self._queue) >= self._most:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(self._patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # it was admitted at the moment when it gave up
                self.leave()
            elif turn in self._queue:
                self._queue.remove(turn)
            if isinstance(error, TimeoutError):
                return False
            raise
        return True

    def leave(self) -> None:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


def _rooms() -> Mapping[str, WaitingRoom]:
    """Returns a waiting room for each kind of request, so that slow ones do not delay quick ones, and neither delays the probes.

    Together they admit fewer requests than anyio has threads (40), so that looks for streams, and the audit, get one too.
    A read is mostly Python, which runs in one thread at a time: more at once would only make each slower.
    """
    return {
        "reads": WaitingRoom(at_once=6, waiting=32, patience=0.4),
        "expensive": WaitingRoom(at_once=4, waiting=8, patience=2.0),
        "changes": WaitingRoom(at_once=12, waiting=64, patience=5.0),
        # Open to any client: metrics are computed for each request, the others once for all.
        "metrics": WaitingRoom(at_once=2, waiting=8, patience=5.0),
        "probes": WaitingRoom(at_once=32, waiting=64, patience=5.0),
        "files": WaitingRoom(
            at_once=32, waiting=256, patience=5.0
        ),  # from memory: a page needs several at once
    }


def _kind(scope: Scope) -> str:
    if scope["path"] in PROBES:
        return "metrics" if scope["path"] == METRICS else "probes"
    if scope["method"] not in READS:
        return "changes"
    if scope["path"].startswith(FILES):
        return "files"
    return "expensive" if costly(scope) else "reads"


class AdmissionControl:
    """Middleware: admits a request when there is room for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._rooms = app, _rooms()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == LIVE:
            await self._app(scope, receive, send)
            return
        room = self._rooms[_kind(scope)]
        if not await room.enter():
            await overloaded(TOLD)(scope, receive, send)
            return
        with _taken_place(room) as leave:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start" and _only_sending_left(message):
                    leave()
                await send(message)

            await self._app(scope, receive, watched)


def overloaded(sentence: str) -> Response:
    return error_answer(503, "overloaded", sentence, headers={"Retry-After": str(PAUSE)})


@contextmanager
def _taken_place(room: WaitingRoom) -> Iterator["_Leave"]:
    leave = _Leave(room)
    try:
        yield leave
    finally:
        leave()


class _Leave:
    """Leaves a room, but only once."""

    def __init__(self, room: WaitingRoom) -> None:
        self._room: WaitingRoom | None = room

    def __call__(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.leave()


def _only_sending_left(start: Message) -> bool:
    """Whether only sending is left: a small answer, or a stream, whose number is limited elsewhere."""
    headers = Headers(raw=list(start["headers"]))
    if headers.get("content-type", "").startswith("text/event-stream"):
        return True
    length = headers.get("content-length", "")
    return length.isdigit() and int(length) <= AT_ONCE_SENT
