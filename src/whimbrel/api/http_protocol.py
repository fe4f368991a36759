"""HTTP as it comes from the wire: what is none is answered in the envelope too, and nobody holds a connection for nothing."""

import asyncio
import re
import time
from typing import Any, ClassVar, Final

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from whimbrel.api.http_errors import error_answer
from whimbrel.api.middleware.request_bodies import late

LINGER = 2.0  # seconds in which what still comes is forgotten: closing at once would reset the answer away
LINES: Final = 100  # of a head: each costs the event loop some microseconds, before anybody is known
LARGEST_HEAD: Final = 64 * 1024  # bytes
PIECES: Final = 1000  # of a body; if there are more, each has on average
SMALLEST: Final = 32  # bytes, or more
REASONS: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
}
_END: Final = re.compile(rb"\n\r?\n")
_LENGTH: Final = re.compile(rb"\ncontent-length[ \t]*:", re.IGNORECASE)
_CODING: Final = re.compile(rb"\ntransfer-encoding[ \t]*:", re.IGNORECASE)


class _Pieces(h11.Connection):
    """Counts the pieces of each body: a quarter of a megabyte in chunks of one byte costs the event loop a quarter of a second."""

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
    """uvicorn's protocol over h11, whose own refusals are plain text, and which waits for ever for a request or for a reader."""

    patience: ClassVar[float] = 10.0  # seconds that the head of a request may take
    reading: ClassVar[float] = 30.0  # seconds in which a client must have read something of its answer
    most: ClassVar[int] = 1000  # connections

    _refused = False
    _asking: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None
    quiet = 0.0  # since when nothing has been asked

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.conn = _Pieces(h11.SERVER, LARGEST_HEAD)

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
        """Once for each request at least: the next head is looked at before it is taken apart."""
        if self.conn.their_state is h11.IDLE and (refusal := _of_head(self.conn.trailing_data[0])):
            self._refuse(refusal)
        else:
            super().handle_events()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing to say: such a request is answered as if it had not asked for another protocol (RFC 9110, 7.8)."""

    def on_response_complete(self) -> None:
        self.quiet = time.monotonic()
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_asking()
        self.resume_writing()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._sending is None:
            self._sending = self.loop.call_later(self.reading, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._sending is not None:
            self._sending.cancel()
        self._sending = None

    @property
    def at_work(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _begun(self) -> bool:
        """Whether the client owes something: its first request, the rest of a head, or of a body that was answered already."""
        return self.cycle is None or self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])

    def _watch(self) -> None:
        """A client has so long for what it owes, however often it sends a byte. Between two requests uvicorn counts."""
        if self._refused or self.at_work or not self._begun:
            self._stop_asking()
        elif self._asking is None:
            self._asking = self.loop.call_later(self.patience, self._give_up)

    def _stop_asking(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
        self._asking = None

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(late())
        else:
            self.transport.close()

    def _make_room(self) -> None:
        """Of too many connections the one goes that has asked nothing for longest; where all ask something, the newest."""
        quiet = [each for each in self.connections if isinstance(each, HttpProtocol) and not each.at_work]
        min(quiet, key=lambda each: each.quiet, default=self).transport.abort()

    def send_400_response(self, msg: str) -> None:
        fault = getattr(self.conn, "fault", "") or f"This is no HTTP request: {msg}"
        self._refuse(error_answer(400, "malformed", fault))

    def _refuse(self, refusal: Response) -> None:
        if self.conn.our_state not in {
            h11.IDLE,
            h11.SEND_RESPONSE,
        }:  # an answer has begun: nothing fits after it
            self.transport.close()
            return
        headers = [
            *(each for each in refusal.raw_headers if each[0] != b"connection"),
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
        if self.at_work:  # whoever waits for the rest of a body need not answer any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._stop_asking()
        self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)


def _of_head(received: bytes) -> Response | None:
    """Why the head that begins here, or as much of it as there is, is refused."""
    whole = _END.search(received)
    head = received[: whole.start()] if whole else received
    if len(head) > LARGEST_HEAD or head.count(b"\n") > LINES:
        return error_answer(
            431,
            "head_too_large",
            f"The head of the request has more than {LINES} lines, or {LARGEST_HEAD:,} bytes. Send less.",
        )
    if whole and _LENGTH.search(head) and _CODING.search(head):  # a proxy may believe the other one
        sentence = "The request says both Content-Length and Transfer-Encoding. Send one of them."
        return error_answer(400, "malformed", sentence)
    return None
