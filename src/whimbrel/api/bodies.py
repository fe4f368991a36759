"""What a body may be, before any route sees it: at most 1 MiB of JSON in UTF-8, not too deep, no key twice in one object."""

import json
from collections import Counter
from collections.abc import Iterable
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


class Repeating(dict[str, object]):
    """An object with a key twice. A dict takes the last value of it, and forgets the other."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        super().__init__(pairs)
        self.pairs = pairs
        self.name = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)


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
        return _unusable(body.decode())
    except UnicodeDecodeError:
        return 400, "malformed", "The body is not UTF-8."


def _unusable(text: str) -> tuple[int, str, str] | None:
    repeating: list[Repeating] = []

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            found = Repeating(pairs)
            repeating.append(found)
        return found

    try:
        told = json.loads(text, object_pairs_hook=once)
        deep = _depth(told)
    except RecursionError:
        deep = DEEPEST + 1
    except ValueError as error:
        return 400, "malformed", f"The body is no JSON: {error}."
    if deep > DEEPEST:
        return 400, "malformed", f"The body is nested deeper than {DEEPEST} levels."
    if repeating:
        name, where = repeating[0].name[:80], _place(told, repeating[0]) or "the top"
        return (
            400,
            "malformed",
            f"The body has the key {name!r} twice in one object, at {where[:200]!r}. Give it once.",
        )
    return None


def _depth(value: object) -> int:
    """Of objects and arrays in one another; stops counting when it is too deep."""
    level, here = 0, [value]
    while here and level <= DEEPEST:
        here = [inner for each in here for _, inner in _inner(each)]
        level += 1
    return level


def _place(value: object, wanted: Repeating) -> str | None:
    """The path to an object; empty for the whole, None where it is not in there."""
    if value is wanted:
        return ""
    for name, inner in _inner(value):
        found = _place(inner, wanted)
        if found is not None:
            return name + (f".{found}" if found and found[0] != "[" else found)
    return None


def _inner(value: object) -> Iterable[tuple[str, object]]:
    """What an object or array holds, by its name there."""
    if isinstance(value, Repeating):
        return value.pairs
    if isinstance(value, dict):
        return value.items()
    return [(f"[{at}]", each) for at, each in enumerate(value)] if isinstance(value, list) else ()
