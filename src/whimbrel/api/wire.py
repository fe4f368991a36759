"""HTTP as it comes from the wire: what is none is answered in the envelope too, and nobody holds a connection for nothing."""

import asyncio
import time
from typing import ClassVar, Final

import h11
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from whimbrel.api.bodies import late
from whimbrel.api.errors import answer

LINGER = 2.0  # seconds in which what still comes is forgotten: closing at once would reset the answer away
REASONS: Final = {400: b"Bad Request", 408: b"Request Timeout"}


class Wire(H11Protocol):
    """uvicorn's protocol over h11, whose own refusals are plain text, and which waits for ever for a request or for a reader."""

    patience: ClassVar[float] = 10.0  # seconds that the head of a request may take
    reading: ClassVar[float] = 30.0  # seconds in which a client must have read something of its answer
    most: ClassVar[int] = 1000  # connections

    _refused = False
    _asking: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None
    quiet = 0.0  # since when nothing has been asked

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
        if self.at_work or not self._begun:
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
        quiet = [each for each in self.connections if isinstance(each, Wire) and not each.at_work]
        min(quiet, key=lambda each: each.quiet, default=self).transport.abort()

    def send_400_response(self, msg: str) -> None:
        self._refuse(answer(400, "malformed", f"This is no HTTP request: {msg}"))

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
        self._stop_asking()
        self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)
