"""Middleware that most requests pass by: those that it does not concern cost nothing."""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

Dispatch = Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]


class SelectiveMiddleware(BaseHTTPMiddleware):
    """`dispatch` is asked about a request only where `concerns` says so: it takes a task and a stream for each."""

    def __init__(self, app: ASGIApp, dispatch: Dispatch, concerns: Callable[[Scope], bool]) -> None:
        super().__init__(app, dispatch)
        self._concerns = concerns

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._concerns(scope):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)
