"""What a body may be, before any route sees it: at most 1 MiB of JSON in UTF-8, not too deep."""

import json
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whimbrel.api.errors import answer

LARGEST: Final = 1024 * 1024
LARGER: Final = {"/migrate/bulk": 8 * LARGEST}  # 100,000 ids
DISCARDED: Final = (
    64 * LARGEST
)  # bytes that are read and forgotten, so that the client hears why instead of a reset
DEEPEST: Final = 100
WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Bodies:
    """Middleware: reads the whole body, refuses it or hands it on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in WITH_BODY:
            await self._app(scope, receive, send)
            return
        limit = LARGER.get(scope["path"], LARGEST)
        body = await _read(receive, limit)
        if body is None:
            return  # the client is gone
        refusal = _refusal(body, dict(scope["headers"]), limit)
        if refusal is not None:
            await answer(*refusal)(scope, receive, send)
            return
        sent = False

        async def again() -> Message:
            nonlocal sent
            if sent:
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


async def _read(receive: Receive, limit: int) -> bytes | None:
    """All of it; or as much as shows that it is too much, the rest being read and forgotten."""
    body, forgotten, more = b"", 0, True
    while more and forgotten < DISCARDED:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece, more = message.get("body", b""), message.get("more_body", False)
        if len(body) <= limit:
            body += piece
        else:
            forgotten += len(piece)
    return body


def _refusal(body: bytes, headers: dict[bytes, bytes], limit: int) -> tuple[int, str, str] | None:
    if len(body) > limit:
        return 413, "too_large", f"The body is larger than {limit:,} bytes."
    if not body.strip():
        return None
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        said = kind.decode("latin-1") or "without a type"
        return 415, "unsupported_type", f"The body is {said[:100]}. Send JSON as application/json."
    try:
        deep = _depth(json.loads(body.decode()))
    except UnicodeDecodeError:
        return 400, "malformed", "The body is not UTF-8."
    except RecursionError:
        deep = DEEPEST + 1
    except ValueError as error:
        return 400, "malformed", f"The body is no JSON: {error}."
    if deep > DEEPEST:
        return 400, "malformed", f"The body is nested deeper than {DEEPEST} levels."
    return None


def _depth(value: object) -> int:
    """Of objects and arrays in one another; stops counting when it is too deep."""
    level, here = 0, [value]
    while here and level <= DEEPEST:
        here = [
            inner
            for each in here
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        level += 1
    return level
