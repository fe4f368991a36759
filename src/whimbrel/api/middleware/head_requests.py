"""Answers HEAD on every route with GET: the same answer without its body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """Middleware: turns HEAD into GET, and discards the body. A stream ends with its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        over = False

        async def headers_only(message: Message) -> None:
            nonlocal over
            if over or message["type"] != "http.response.start":
                return
            over = True
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        async def receive_or_disconnect() -> Message:
            return {"type": "http.disconnect"} if over else await receive()

        await self._app({**scope, "method": "GET"}, receive_or_disconnect, headers_only)
