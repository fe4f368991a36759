"""HEAD on every route that answers to GET: the same answer without its body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadRequests:
    """Middleware: what is behind it sees a GET, whose body goes nowhere. A stream ends with its headers."""

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

        async def until_then() -> Message:
            return {"type": "http.disconnect"} if over else await receive()

        await self._app({**scope, "method": "GET"}, until_then, headers_only)
