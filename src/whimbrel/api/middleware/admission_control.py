"""How many requests are worked on at a time, how many wait for that and how long; all others are told at once to come back.

Without it everything is begun, nothing ends in time, and what is answered at last is answered to nobody.
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

LIVE: Final = "/health/live"  # costs nothing, and tells that the process lives: always answered
METRICS: Final = "/metrics"
PROBES: Final = frozenset({"/health", "/health/ready", METRICS})
READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PAUSE: Final = 1  # seconds after which somebody who was sent away may come back
AT_ONCE_SENT = 256 * 1024  # bytes of an answer that the system's buffers take, whoever reads them
TOLD = (
    f"Whimbrel has more requests than it can answer in time. Nothing was done. Try again in {PAUSE} second."
)


class WaitingRoom:
    """So many may be in it, so many more wait at its door, for so many seconds."""

    def __init__(self, at_once: int, waiting: int, patience: float) -> None:
        self._free, self._most, self._patience = at_once, waiting, patience
        self._queue: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> bool:
        """Whether there was room in time. Whoever got in must `leave`."""
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
            if turn.done() and not turn.cancelled():  # it was let in at the moment in which it gave up
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
    """Of each kind its own: what takes long does not stand in the way of what is quick, nor either in that of the probes.

    Together they are fewer than the threads that work for them (anyio's 40): looks for streams, and the audit, find one too.
    A read is mostly Python, which one thread does at a time: more at once would only make each later.
    """
    return {
        "reads": WaitingRoom(at_once=6, waiting=32, patience=0.4),
        "expensive": WaitingRoom(at_once=4, waiting=8, patience=2.0),
        "changes": WaitingRoom(at_once=12, waiting=64, patience=5.0),
        # Whoever reaches the port may ask for both: of metrics each is worked out, of the others one for all who ask.
        "metrics": WaitingRoom(at_once=2, waiting=8, patience=5.0),
        "probes": WaitingRoom(at_once=32, waiting=64, patience=5.0),
    }


def _kind(scope: Scope) -> str:
    if scope["path"] in PROBES:
        return "metrics" if scope["path"] == METRICS else "probes"
    if scope["method"] not in READS:
        return "changes"
    return "expensive" if costly(scope) else "reads"


class AdmissionControl:
    """Middleware: a request is carried out while there is room for it."""

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
        with _place(room) as leave:

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start" and _worked_out(message):
                    leave()
                await send(message)

            await self._app(scope, receive, watched)


def overloaded(sentence: str) -> Response:
    return error_answer(503, "overloaded", sentence, headers={"Retry-After": str(PAUSE)})


@contextmanager
def _place(room: WaitingRoom) -> Iterator["_Leave"]:
    leave = _Leave(room)
    try:
        yield leave
    finally:
        leave()


class _Leave:
    """Leaves a room, once."""

    def __init__(self, room: WaitingRoom) -> None:
        self._room: WaitingRoom | None = room

    def __call__(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.leave()


def _worked_out(start: Message) -> bool:
    """Whether nothing is left to do but to send: a small answer, or a stream, of which there is a limit of its own."""
    headers = Headers(raw=list(start["headers"]))
    if headers.get("content-type", "").startswith("text/event-stream"):
        return True
    length = headers.get("content-length", "")
    return length.isdigit() and int(length) <= AT_ONCE_SENT
