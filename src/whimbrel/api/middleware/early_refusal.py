"""Refuses a request before its body is read, and discards the rest, so that the client reads why instead of a reset."""

import asyncio
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

FORGOTTEN: Final = 64 * 1024 * 1024  # bytes
LINGER: Final = 5.0  # seconds


async def refuse_early(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    """Sends the answer, and closes the connection where the body does not end soon."""
    headers = Headers(scope=scope)
    comes = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    closes = "connection" in response.headers
    if comes and not closes and ("expect" in headers or not await drain(receive)):
        response.headers["Connection"] = "close"
    await response(scope, receive, send)


async def drain(receive: Receive) -> bool:
    """Discards the rest of a body; returns whether it ended, or the client is gone."""
    size = 0
    try:
        async with asyncio.timeout(LINGER):
            while size < FORGOTTEN:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        pass
    return False
