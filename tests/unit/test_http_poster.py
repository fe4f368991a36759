"""A request goes to the address that was checked, once, and what comes back is bounded in time and size."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.servers.receiver import receiving
from whimbrel.domain.webhooks.addresses import Receiver, read_webhooks
from whimbrel.webhooks.http_poster import HttpPoster
from whimbrel.webhooks.resolving import refused

BODY = b'{"id":"a:1"}'


def to(url: str) -> Receiver:
    found = read_webhooks(url, "a secret of the tests", allow_private=True, no_progress=0)
    assert found is not None
    return found.receivers[0]


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server whose one answer is as raw as it likes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                answer(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        thread.join(60)


def test_what_is_sent_arrives_as_it_is() -> None:
    with receiving() as receiver:
        reply = HttpPoster(allow_private=True).post(to(receiver.url), BODY, {"Whimbrel-Event": "run.paused"})
        (request,) = receiver.requests
    assert (reply.status, reply.problem) == (204, "")
    assert (request.path, request.body) == ("/hook?of=tests", BODY)
    assert request.headers["Host"] in receiver.url
    assert request.headers["Whimbrel-Event"] == "run.paused"


@pytest.mark.parametrize(
    ("bytes_", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "no HTTP that can be read"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 4000, "no HTTP that can be read: it is too long"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP that can be read"), (b"", "It closed the connection before it had answered."),
    ],
    ids=["head", "informational", "other", "nothing"],
)  # fmt: skip
def test_an_answer_that_is_none_is_read_no_further(bytes_: bytes, problem: str) -> None:
    def answer(connection: socket.socket) -> None:
        try:
            connection.sendall(bytes_)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return  # it reads no further

    with answering(answer) as url:
        reply = HttpPoster(allow_private=True).post(to(url), BODY, {})
    assert reply.status is None
    assert problem in reply.problem


@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["status", "header"])
def test_an_answer_that_repeats_the_request_shows_no_secret(before: bytes) -> None:
    """As a port that echoes does: what cannot be read is told without its bytes, which have the path."""
    with answering(lambda connection: connection.sendall(before + b"POST /hidden HTTP/1.1\r\n\r\n")) as url:
        reply = HttpPoster(allow_private=True).post(to(f"{url}hidden"), BODY, {})
    assert "no HTTP that can be read: illegal" in reply.problem
    assert "hidden" not in reply.problem


def test_a_body_without_end_does_not_matter() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                connection.sendall(b"x" * 4096)
        except OSError:
            return

    with answering(answer) as url:
        assert HttpPoster(allow_private=True).post(to(url), BODY, {}).delivered


def test_an_answer_byte_by_byte_has_the_same_time() -> None:
    over = threading.Event()

    def answer(connection: socket.socket) -> None:
        try:
            while not over.wait(0.02):
                connection.sendall(b"x")
        except OSError:
            return

    with answering(answer) as url:
        reply = HttpPoster(allow_private=True, seconds=0.3).post(to(url), BODY, {})
        over.set()
    assert reply.problem == "It did not answer within 0.3 seconds."


def test_nobody_there_and_no_such_name_are_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "cannot be reached: Connection refused" in HttpPoster(allow_private=True).post(to(f"http://127.0.0.1:{port}/"), BODY, {}).problem  # fmt: skip
    reply = HttpPoster(allow_private=True).post(to("http://nowhere.invalid/"), BODY, {})
    assert "nowhere.invalid cannot be resolved" in reply.problem


def test_a_name_that_leads_inside_is_refused_whatever_else_it_leads_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [("93.184.215.14", 80), ("10.0.0.1", 80)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", each) for each in answers])
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it was connected to"))
    reply = HttpPoster(allow_private=False).post(to("http://inside.example.org/hidden"), BODY, {})
    assert reply.status is None
    assert "http://inside.example.org, which is 10.0.0.1, leads to a private" in reply.problem
    assert "hidden" not in reply.problem
    assert "10.0.0.1" in refused([to("http://inside.example.org/")])


def test_localhost_is_refused_at_the_start() -> None:
    assert "http://localhost:9, which is" in refused(
        [to("https://nowhere.invalid/"), to("http://localhost:9/")]
    )


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is asked for, and private when it is asked for again."""
    asked: list[str] = []
    connected: list[Any] = []

    def resolve(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("93.184.215.14" if len(asked) == 1 else "127.0.0.1", 80))]

    def connect(address: Any, **_: Any) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    HttpPoster(allow_private=False).post(to("http://rebinding.example.org/"), BODY, {})
    assert (asked, connected) == (["rebinding.example.org"], [("93.184.215.14", 80)])


def test_an_address_that_swallows_everything_leaves_time_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name with two addresses, the first of which never answers to SYN: its queue is full."""
    with receiving() as receiver, contextlib.ExitStack() as sockets:
        port = int(receiver.url.partition("//")[2].partition("/")[0].rpartition(":")[2])
        server = sockets.enter_context(socket.create_server(("127.0.0.2", port), backlog=0))
        fillers = [sockets.enter_context(socket.socket()) for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        found = [(2, 1, 6, "", (address, port)) for address in ("127.0.0.2", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        monkeypatch.setattr(socket, "create_connection", _numbered)
        reply = HttpPoster(allow_private=True, seconds=2).post(to(receiver.url), BODY, {})
    assert (reply.status, reply.problem) == (204, "")


def _numbered(address: tuple[str, int], timeout: float) -> socket.socket:
    """Connects without asking for a name."""
    connection = socket.socket()
    try:
        connection.settimeout(timeout)
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def test_a_server_without_tls_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with answering(answer) as url:
        reply = HttpPoster(allow_private=True).post(to(url.replace("http:", "https:")), BODY, {})
    assert "TLS with it failed" in reply.problem
    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", _unverified)
    with answering(answer) as url:
        reply = HttpPoster(allow_private=True).post(to(url.replace("http:", "https:")), BODY, {})
    assert reply.problem == "Its certificate is not accepted: self-signed certificate."


def _unverified(*_: object, **__: object) -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"
    raise error
