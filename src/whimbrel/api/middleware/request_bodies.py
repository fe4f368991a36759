"""Checks bodies before a route sees them: JSON in UTF-8 of limited size, depth and number of values, no key twice in an object."""

import asyncio
from typing import Final

import anyio
import anyio.to_thread
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from whimbrel.api.http_errors import error_answer
from whimbrel.api.json_bodies import ParsedBody, parse
from whimbrel.api.json_limits import JsonLimits
from whimbrel.api.middleware.admission_control import WaitingRoom, overloaded
from whimbrel.api.middleware.early_refusal import refuse_early
from whimbrel.api.route_requirements import Requirement

LARGEST: Final = 1024 * 1024
VALUES: Final = 100_000  # of a body: each takes a hundred bytes of memory or more, however short it is
LARGER: Final = {"/migrate/bulk": (8 * LARGEST, 5 * VALUES)}  # 100,000 ids
FORM: Final = "application/x-www-form-urlencoded"
DEEPEST: Final = 100
SMALL: Final = 64 * 1024  # bytes; larger bodies are limited in number, and parsed outside the event loop
TOTAL: Final = 6  # times the time limit of a piece, for all pieces together
WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
CROWDED: Final = "Other large bodies are being worked on. Nothing was done. Try again in a second."


class _Refused(Exception):
    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


class _Gone(Exception):
    """The client has disconnected."""


class RequestBodies:
    """Middleware: reads the body, and refuses it or passes it on. `patience`: seconds that the next piece may take."""

    def __init__(self, app: ASGIApp, patience: float) -> None:
        self._app, self._patience = app, patience
        # A large body takes some hundred bytes of memory for each value until it is answered.
        self._rooms = {LARGEST: WaitingRoom(4, 16, 5.0), 8 * LARGEST: WaitingRoom(2, 16, 5.0)}
        self._parsers = anyio.CapacityLimiter(1)  # Python does one at a time anyway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in WITH_BODY:
            await self._app(scope, receive, send)
            return
        entry: Requirement | None = scope["state"].get("entry")
        fields = entry.fields if entry else None
        # A route without a body gets none, or from some clients an empty object.
        limit, values = LARGER.get(scope["path"], (LARGEST if fields is not None else SMALL, VALUES))
        body = _Body(receive, limit, values, self._patience, self._rooms.get(limit))
        try:
            if entry is not None and entry.form:
                await _read_form(scope, body)
            else:
                await self._read_and_parse(scope, body, fields)
            await self._app(scope, body.receive_again, send)
        except _Refused as refused:
            await refuse_early(refused.response, scope, body.receive_rest, send)
        except _Gone:
            return
        finally:
            body.close()

    async def _read_and_parse(self, scope: Scope, body: "_Body", fields: frozenset[str] | None) -> None:
        headers = Headers(scope=scope)
        _check_type(headers)
        _check_coding(headers)
        body.check_length(headers.get("content-length", ""))
        content = await body.read()
        if not content:
            return
        if "content-type" not in headers:
            raise _Refused(_unsupported("without a type"))
        if len(content) > SMALL:
            parsed = await anyio.to_thread.run_sync(parse, content, fields, limiter=self._parsers)
        else:
            parsed = parse(content, fields)
        if not isinstance(parsed, ParsedBody):
            raise _Refused(parsed)
        scope["state"]["parsed"] = parsed


async def _read_form(scope: Scope, body: "_Body") -> None:
    """Reads what a browser sends of a form without JavaScript; the route parses it."""
    headers = Headers(scope=scope)
    kinds = [text.partition(";")[0].strip().lower() for text in headers.getlist("content-type")]
    if kinds not in ([], [FORM]):
        raise _Refused(
            error_answer(
                415, "unsupported_type", f"The body is {', '.join(kinds)[:100]}. Send a form as {FORM}."
            )
        )
    _check_coding(headers)
    body.check_length(headers.get("content-length", ""))
    await body.read()


def _check_type(headers: Headers) -> None:
    """Refuses other types, even of an empty body: a form without fields is a form. Without a type there may be no body."""
    for content_type in headers.getlist("content-type"):
        kind = content_type.partition(";")[0].strip().lower()
        if kind != "application/json":
            raise _Refused(_unsupported(kind or "without a type"))


def _check_coding(headers: Headers) -> None:
    """Refuses compressed bodies, which may be large when unpacked."""
    coding = ", ".join(headers.getlist("content-encoding")).strip().lower()
    if coding not in ("", "identity"):
        sentence = f"The body is compressed ({coding[:100]}). Send it as it is."
        raise _Refused(
            error_answer(415, "unsupported_type", sentence, headers={"Accept-Encoding": "identity"})
        )


def timed_out() -> Response:
    sentence = "The request did not come in time. Send it at once."
    return error_answer(408, "timed_out", sentence, headers={"Connection": "close"})


def _unsupported(description: str) -> Response:
    return error_answer(
        415, "unsupported_type", f"The body is {description[:100]}. Send JSON as application/json."
    )


class _Body:
    """One body, as it arrives."""

    def __init__(
        self, receive: Receive, limit: int, values: int, patience: float, room: WaitingRoom | None
    ) -> None:
        self._receive, self._limit, self._patience, self._room = receive, limit, patience, room
        self._shape = JsonLimits(DEEPEST, values)
        self._entered = self._more = self._read = self._sent = False
        self._pieces: list[bytes] = []
        self._size = 0

    def check_length(self, length: str) -> None:
        """Checks the announced length. Raises _Refused before anything is read."""
        if length.isdigit() and int(length) > self._limit:
            raise _Refused(self._too_large())

    async def read(self) -> bytes:
        """Reads all of it. Raises _Refused at the first piece that is too much, _Gone."""
        clock = asyncio.get_running_loop().time
        end = clock() + TOTAL * self._patience
        self._more = True
        while self._more:
            piece = await self._next_piece(end - clock())
            self._add(piece)
            if self._size > SMALL and self._room is not None and not self._entered:
                began = clock()
                await self._enter(self._room)
                end += clock() - began  # the client is not responsible for this wait
        self._pieces = [b"".join(self._pieces)]
        self._read = True
        return self._pieces[0]

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._limit:
            raise _Refused(self._too_large())
        self._shape.feed(piece)
        if self._shape.fault:
            raise _Refused(error_answer(400, "malformed", f"The body {self._shape.fault}."))
        self._pieces.append(piece)

    async def _enter(self, room: WaitingRoom) -> None:
        self._entered = await room.enter()
        if not self._entered:
            raise _Refused(overloaded(CROWDED))

    async def _next_piece(self, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(min(self._patience, max(0.0, seconds))):
                message = await self._receive()
        except TimeoutError:
            raise _Refused(timed_out()) from None
        if message["type"] == "http.disconnect":
            raise _Gone
        self._more = message.get("more_body", False)
        piece: bytes = message.get("body", b"")
        return piece

    def _too_large(self) -> Response:
        return error_answer(413, "too_large", f"The body is larger than {self._limit:,} bytes.")

    async def receive_again(self) -> Message:
        """Gives the body to the application."""
        if self._sent:
            return await self._receive()
        self._sent = True
        return {"type": "http.request", "body": self._pieces[0], "more_body": False}

    async def receive_rest(self) -> Message:
        """Reads what a refusal discards."""
        if self._read or (self._size and not self._more):
            return {"type": "http.request", "body": b"", "more_body": False}
        return await self._receive()

    def close(self) -> None:
        if self._entered and self._room is not None:
            self._room.leave()
        self._entered = False
