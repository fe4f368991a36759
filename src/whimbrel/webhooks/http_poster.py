"""Posts one request and reads its status: to an address that was checked, without redirects, within a time and a size."""

import contextlib
import socket
import ssl
import time
from collections.abc import Mapping, Sequence

import h11

from whimbrel.domain.webhooks.addresses import Receiver
from whimbrel.domain.webhooks.deliveries import TRY_SECONDS, Reply, reply_of
from whimbrel.webhooks.resolving import ReceiverRefused, ReceiverUnknown, resolved

LARGEST = 65_536  # bytes of an answer that are read
HEAD = 16_384  # bytes that its head may have
PIECE = 8192
CONNECTING = 3  # addresses of a name that are tried
ENDING = 1.0  # seconds for which the body of an answer is read, whose status is known


class HttpPoster:
    """Implements `whimbrel.ports.webhooks.Poster`. Proxies that the environment names are not used."""

    def __init__(self, *, allow_private: bool, seconds: float = TRY_SECONDS) -> None:
        self._allow_private, self._seconds = allow_private, seconds
        self._tls: ssl.SSLContext | None = None

    def post(self, receiver: Receiver, body: bytes, headers: Mapping[str, str]) -> Reply:
        try:
            addresses = resolved(receiver, allow_private=self._allow_private)
            deadline = time.monotonic() + self._seconds  # a system's resolver has time limits of its own
            with self._connected(receiver, addresses, deadline) as connection:
                return reply_of(_exchange(connection, receiver, body, headers, deadline))
        except (ReceiverRefused, ReceiverUnknown) as error:
            return Reply(None, str(error))
        except TimeoutError:
            return Reply(None, f"It did not answer within {self._seconds:g} seconds.")
        except ssl.SSLCertVerificationError as error:
            return Reply(None, f"Its certificate is not accepted: {error.verify_message}.")
        except ssl.SSLError as error:
            return Reply(None, f"TLS with it failed: {error.reason or 'it broke off'}.")
        except ConnectionAbortedError:
            return Reply(None, "It closed the connection before it had answered.")
        except h11.ProtocolError as error:
            # What is behind the colon are bytes of the answer, which may repeat the request and its secrets.
            return Reply(None, f"Its answer is no HTTP that can be read: {str(error).partition(':')[0]}.")
        except OSError as error:
            return Reply(None, f"It cannot be reached: {error.strerror or type(error).__name__}.")

    def _connected(self, receiver: Receiver, addresses: Sequence[str], deadline: float) -> socket.socket:
        """Connects to the first address that answers; the name counts for its certificate alone.

        Each has its part of the time: one that swallows everything, as IPv6 without a route often is, leaves enough to the next.
        """
        tried = addresses[:CONNECTING]
        for number, address in enumerate(tried):
            try:
                seconds = _left(deadline) / (len(tried) - number)
                plain = socket.create_connection((address, receiver.port), timeout=seconds)
                break
            except OSError:
                if number == len(tried) - 1:
                    raise
        plain.settimeout(_left(deadline))
        if not receiver.secure:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=receiver.host)
        except BaseException:
            plain.close()
            raise

    @property
    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def _exchange(
    connection: socket.socket, receiver: Receiver, body: bytes, headers: Mapping[str, str], deadline: float
) -> int:
    """Sends the request and returns the status of the answer."""
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD)
    own = {"Host": receiver.authority, "Content-Length": str(len(body)), "Connection": "close"}
    request = h11.Request(method="POST", target=receiver.target, headers=list({**own, **headers}.items()))
    sent = [protocol.send(request), protocol.send(h11.Data(data=body)), protocol.send(h11.EndOfMessage())]
    connection.settimeout(_left(deadline))
    connection.sendall(b"".join(part or b"" for part in sent))
    taken = 0
    while True:
        event = protocol.next_event()
        if isinstance(event, h11.Response):
            _read_rest(connection, LARGEST - taken, min(deadline, time.monotonic() + ENDING))
            return event.status_code
        if event is h11.NEED_DATA:
            connection.settimeout(_left(deadline))
            piece = connection.recv(PIECE)
            if not piece and not taken:
                raise ConnectionAbortedError
            taken += len(piece)
            if taken > LARGEST:
                raise h11.RemoteProtocolError("it is too long")
            protocol.receive_data(piece)
        elif not isinstance(event, h11.InformationalResponse):
            raise h11.RemoteProtocolError("it has no status")


def _read_rest(connection: socket.socket, most: int, deadline: float) -> None:
    """Reads the body of an answer, so that its sender meets no error; nothing depends on it."""
    with contextlib.suppress(OSError):
        while most > 0 and (seconds := deadline - time.monotonic()) > 0:
            connection.settimeout(seconds)
            piece = connection.recv(PIECE)
            if not piece:
                return
            most -= len(piece)


def _left(deadline: float) -> float:
    """Returns the seconds that are left. Raises TimeoutError where there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
