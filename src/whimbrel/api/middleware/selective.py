"""Runs a middleware only for the requests that it concerns, so that it costs the others nothing."""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

Dispatch = Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]


class SelectiveMiddleware(BaseHTTPMiddleware):
    """Calls `dispatch` only where `concerns` is true, as it takes a task and a stream for each request."""

    def __init__(self, app: ASGIApp, dispatch: Dispatch, concerns: Callable[[Scope], bool]) -> None:
        super().__init__(app, dispatch)
        self._concerns = concerns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._concerns(scope):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)
