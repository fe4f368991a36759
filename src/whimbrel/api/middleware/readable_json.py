"""Makes answers printable: texts of documents may have characters that act on a terminal, or reverse the text beside them."""

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whimbrel.domain.text.printable import visible_json

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"


class ReadableJson:
    """Middleware: sends such characters in JSON and in events as JSON escapes. Clients read the same values."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._app(scope, receive, _Answer(send))
        else:
            await self._app(scope, receive, send)


class _Answer:
    """Rewrites one answer while it is sent."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._kind = ""
        self._start: Message = {}
        self._pieces: list[bytes] = []

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._kind, self._start = _kind(message), message
            if self._kind != JSON:  # the length of JSON is not known yet
                await self._send(message)
        elif self._kind == JSON:
            self._pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                await self._send_body(_readable(b"".join(self._pieces)))
        elif self._kind == EVENTS:  # each piece consists of complete events
            await self._send({**message, "body": _readable(message.get("body", b""))})
        else:
            await self._send(message)

    async def _send_body(self, body: bytes) -> None:
        MutableHeaders(scope=self._start)["content-length"] = str(len(body))
        await self._send(self._start)
        await self._send({"type": "http.response.body", "body": body})


def _kind(start: Message) -> str:
    content_type = Headers(raw=list(start["headers"])).get("content-type", "")
    return content_type.partition(";")[0].strip().lower()


def _readable(body: bytes) -> bytes:
    if body.isascii() and b"\x7f" not in body:
        return body
    return visible_json(body.decode()).encode()
