"""Limits how long all of a read may wait for MongoDB: one that stands still would keep its reader for half a minute."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from whimbrel.api.middleware.admission_control import READS
from whimbrel.api.middleware.rate_limits import costly

SECONDS: Final = 10.0
# Answers that go on for as long as their reader wants them; each of their statements has a limit of its own.
_GOING_ON: Final = ("/stream", "/export", "/monitoring")
_EVENTS: Final = "/migrate/events/"
# The deadline would replace the shorter limit that this one has for its count, and with it the answer that needs none.
_OWN_LIMIT: Final = "/seed/"


class ReadDeadline:
    """Middleware. `within`: returns a context in which MongoDB has so many seconds for all statements together."""

    def __init__(self, app: ASGIApp, within: Callable[[float], AbstractContextManager[None]]) -> None:
        self._app, self._within = app, within

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] not in READS
            or costly(scope)
            or _has_its_own(scope["path"])
        ):
            await self._app(scope, receive, send)
            return
        with self._within(SECONDS):
            await self._app(scope, receive, send)


def _has_its_own(path: str) -> bool:
    return path.startswith((_EVENTS, _OWN_LIMIT)) or path.endswith(_GOING_ON)
