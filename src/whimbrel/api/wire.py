"""HTTP as it comes from the wire: what is none is answered in the envelope too, before the application sees it."""

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from whimbrel.api.errors import answer

LINGER = 2.0  # seconds in which what still comes is forgotten: closing at once would reset the answer away


class Wire(H11Protocol):
    """uvicorn's protocol over h11, whose own refusals are plain text."""

    _refused = False

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state not in {
            h11.IDLE,
            h11.SEND_RESPONSE,
        }:  # an answer has begun: nothing fits after it
            self.transport.close()
            return
        refusal = answer(400, "malformed", f"This is no HTTP request: {msg}")
        headers = [*refusal.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(refusal.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self._refused = True
        self.transport.write_eof()
        self.loop.call_later(LINGER, self.transport.close)
