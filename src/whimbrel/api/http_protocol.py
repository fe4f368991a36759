"""Reads HTTP from connections: answers malformed requests in the envelope, and closes connections that are not used."""

import asyncio
import re
import time
from typing import Any, ClassVar, Final

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from whimbrel.api.http_errors import error_answer
from whimbrel.api.middleware.request_bodies import timed_out

LINGER = 2.0  # seconds to discard what still arrives: closing at once would reset the connection before the answer is read
LINES: Final = 100  # of a head: each costs the event loop some microseconds before the caller is known
LARGEST_HEAD: Final = 64 * 1024  # bytes
PIECES: Final = 1000  # of a body; if there are more, their mean size must be at least
SMALLEST: Final = 32  # bytes
REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
}
_END: Final = re.compile(rb"\n\r?\n")
_LENGTH: Final = re.compile(rb"\ncontent-length[ \t]*:", re.IGNORECASE)
_CODING: Final = re.compile(rb"\ntransfer-encoding[ \t]*:", re.IGNORECASE)


class _PieceCounter(h11.Connection):
    """Counts the pieces of each body: 256 kB in chunks of one byte cost the event loop a quarter of a second."""

    _pieces = _size = 0
    fault = ""

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._size = 0
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._size += len(event.data)
            if self._pieces > PIECES and self._size < SMALLEST * self._pieces:
                self.fault = "The body comes in too many small pieces. Send larger ones."
                raise h11.RemoteProtocolError(self.fault)
        return event


class HttpProtocol(H11Protocol):
    """uvicorn's protocol over h11, with refusals in the envelope, and time limits for requests and readers."""

    patience: ClassVar[float] = 10.0  # seconds that the head of a request may take
    reading: ClassVar[float] = 30.0  # seconds in which a client must have read something of its answer
    most: ClassVar[int] = 1000  # connections

    _refused = False
    _request_timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    quiet = 0.0  # since when there has been no request

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.conn = _PieceCounter(h11.SERVER, LARGEST_HEAD)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.quiet = time.monotonic()
        self._watch()
        if len(self.connections) > self.most:
            self._make_room()

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)
            self._watch()

    def handle_events(self) -> None:
        """Checks the next head before it is parsed; called at least once for each request."""
        if self.conn.their_state is h11.IDLE and (refusal := _head_refusal(self.conn.trailing_data[0])):
            self._refuse(refusal)
        else:
            super().handle_events()

    def _unsupported_upgrade_warning(self) -> None:
        """Does not warn: such a request is answered as if it had not asked for another protocol (RFC 9110, 7.8)."""

    def on_response_complete(self) -> None:
        self.quiet = time.monotonic()
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_request_timer()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.reading, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
        self._write_timer = None

    @property
    def at_work(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _client_owes(self) -> bool:
        """Whether the client still has to send: its first request, the rest of a head, or of a body that was already answered."""
        return self.cycle is None or self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])

    def _watch(self) -> None:
        """Limits the time for what the client still has to send, however often it sends a byte. uvicorn limits idle connections."""
        if self._refused or self.at_work or not self._client_owes:
            self._stop_request_timer()
        elif self._request_timer is None:
            self._request_timer = self.loop.call_later(self.patience, self._give_up)

    def _stop_request_timer(self) -> None:
        if self._request_timer is not None:
            self._request_timer.cancel()
        self._request_timer = None

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(timed_out())
        else:
            self.transport.close()

    def _make_room(self) -> None:
        """Closes the connection that has been idle for longest; where none is idle, the newest."""
        idle = [
            connection
            for connection in self.connections
            if isinstance(connection, HttpProtocol) and not connection.at_work
        ]
        min(idle, key=lambda connection: connection.quiet, default=self).transport.abort()

    def send_400_response(self, msg: str) -> None:
        fault = getattr(self.conn, "fault", "") or f"This is no HTTP request: {msg}"
        self._refuse(error_answer(400, "malformed", fault))

    def _refuse(self, refusal: Response) -> None:
        if self.conn.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:  # an answer has already begun
            self.transport.close()
            return
        headers = [
            *(header for header in refusal.raw_headers if header[0] != b"connection"),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(
                status_code=refusal.status_code, headers=headers, reason=REASONS[refusal.status_code]
            ),
            h11.Data(data=bytes(refusal.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._refused = True
        if self.at_work:  # a route that waits for the rest of the body need not answer any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._stop_request_timer()
        self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)


def _head_refusal(received: bytes) -> Response | None:
    """Returns the refusal of a head, or of as much of it as has arrived; None if it is acceptable."""
    end = _END.search(received)
    head = received[: end.start()] if end else received
    if len(head) > LARGEST_HEAD or head.count(b"\n") > LINES:
        return error_answer(
            431,
            "head_too_large",
            f"The head of the request has more than {LINES} lines, or {LARGEST_HEAD:,} bytes. Send less.",
        )
    if end and _LENGTH.search(head) and _CODING.search(head):  # a proxy may use the other one
        sentence = "The request says both Content-Length and Transfer-Encoding. Send one of them."
        return error_answer(400, "malformed", sentence)
    return None
