"""Ends what is sent to a session for long, such as event streams, soon after the session has ended: one look for all of this process."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import anyio
import anyio.to_thread
import structlog
from starlette.types import Message, Receive, Scope, Send

from whimbrel.errors import WhimbrelError

log = structlog.get_logger("whimbrel.api")

EVERY: Final = 2.0  # seconds between two looks
ENDED: Final = b": the session has ended, log in again\n\n"
Serve = Callable[[Scope, Receive, Send], Awaitable[None]]
Look = Callable[[Collection[str]], Collection[str]]


class WatchedSessions:
    """The sessions that something is sent to. Used only in the event loop's thread, except for the looks."""

    def __init__(self, look: Look) -> None:
        """`look`: returns which of these sessions have not ended. May raise WhimbrelError: then nothing is known, and all goes on."""
        self._look = look
        self._sent: dict[anyio.CancelScope, str] = {}
        self._task: asyncio.Task[None] | None = None

    async def serve(self, key: str, serve: Serve, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves a request of the session `key`; ends the answer when the session ends."""
        begun = False

        async def noticed(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        with anyio.CancelScope() as sending:
            self._sent[sending] = key
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._repeat())
            try:
                await serve(scope, receive, noticed)
            finally:
                del self._sent[sending]
        if sending.cancelled_caught and begun:
            await send({"type": "http.response.body", "body": ENDED, "more_body": False})

    async def _repeat(self) -> None:
        while self._sent:
            await asyncio.sleep(EVERY)
            keys = set(self._sent.values())
            try:
                good = await anyio.to_thread.run_sync(self._look, keys) if keys else ()
            except WhimbrelError:
                continue
            except Exception:
                log.exception("a look at the sessions that are sent streams broke")
                continue
            for sending, key in self._sent.items():
                if key in keys and key not in good:
                    sending.cancel()
