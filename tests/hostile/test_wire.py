"""Connections that ask nothing, ask slowly, do not read, or are too many: over real sockets, with times of a moment."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from whimbrel.api.http_protocol import HttpProtocol
from whimbrel.cli.api_server import _protocol_class
from whimbrel.settings import Settings

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


class Hasty(HttpProtocol):
    patience, reading, most = 0.1, 0.1, 3


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    large = scope["path"] == "/large"
    while scope["path"] == "/body" and (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1000 if large else 1):
        await send({"type": "http.response.body", "body": b"x" * (65536 if large else 1), "more_body": large})


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, ServerState]]:
    config = uvicorn.Config(application, http=Hasty, log_config=None, lifespan="off")
    config.load()
    state = ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: Hasty(config, state, {}), "127.0.0.1", 0, family=socket.AF_INET
    )
    async with server:
        yield server.sockets[0].getsockname()[1], state


def run(scenario: Callable[[int, ServerState], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(60), listening() as (port, state):
            await scenario(port, state)

    asyncio.run(within())


async def until(what: Callable[[], bool]) -> None:
    while not what():  # noqa: ASYNC110  what others do, and tell nobody
        await asyncio.sleep(0.001)


async def answer_to(port: int, *pieces: bytes) -> bytes:
    """All that comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for each in pieces:
        writer.write(each)
    try:
        return await reader.read()
    except ConnectionResetError:
        return b"reset"
    finally:
        writer.close()


def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    async def scenario(port: int, _: ServerState) -> None:
        assert await answer_to(port) == b""
        told = await answer_to(port, HEAD)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"timed_out"' in told
        told = await answer_to(port, HEAD + b"\r\n" + HEAD)  # the second on a connection that is kept open
        assert told.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in told

    run(scenario)


def test_bytes_that_drip_do_not_prolong_it() -> None:
    async def scenario(port: int, state: ServerState) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD)
        told = asyncio.create_task(reader.read())
        while not told.done():
            writer.write(b"X-Drip: 1\r\n")
            await asyncio.wait([told], timeout=0.01)
        writer.close()
        assert (told.exception() is not None) or told.result().startswith(b"HTTP/1.1 408 ")

    run(scenario)


def test_a_body_that_goes_on_behind_its_answer_ends_too() -> None:
    async def scenario(port: int, _: ServerState) -> None:
        told = await answer_to(port, HEAD + b"Content-Length: 1000000\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 200 ")

    run(scenario)


def test_a_client_that_does_not_read_is_cut_off() -> None:
    async def scenario(port: int, state: ServerState) -> None:
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            await asyncio.to_thread(deaf.sendall, b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: bool(state.tasks))
            await until(lambda: not state.connections and not state.tasks)

    run(scenario)


def test_the_setting_says_how_long_a_head_may_take() -> None:
    assert _protocol_class(Settings(api_timeout=3.5)).patience == 3.5


def test_of_too_many_connections_the_quietest_makes_room() -> None:
    async def scenario(port: int, state: ServerState) -> None:
        quiet = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        told = await answer_to(port, HEAD + b"Connection: close\r\n\r\n")
        assert told.startswith(b"HTTP/1.1 200 ")
        for _, writer in quiet:
            writer.close()

    run(scenario)


CHUNKED = HEAD.replace(b"GET", b"POST") + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n"
BODY = b"\r\n2\r\n{}\r\n0\r\n\r\n"


def test_a_head_of_many_lines_or_of_many_bytes_is_refused() -> None:
    """However it comes: twenty thousand lines in one piece cost the event loop a sixth of a second."""
    many, large = b"a:\r\n" * 20_000, b"X: " + b"a" * 70_000 + b"\r\n"

    async def scenario(port: int, _: ServerState) -> None:
        for lines in (many, large, b"a:\r\n" * 100):
            for before in (b"", HEAD + b"\r\n"):  # the second on a connection that is kept open
                for end in (b"\r\n", b""):
                    told = await answer_to(port, before + HEAD + lines + end)
                    assert b"HTTP/1.1 431 " in told
                    assert b'"code":"head_too_large"' in told
                    assert told.startswith(b"HTTP/1.1 200 ") == bool(before)
        fair = HEAD + b"a:\r\n" * 90
        told = await answer_to(port, (fair + b"\r\n") * 2 + fair + b"Connection: close\r\n\r\n")
        assert told.count(b"HTTP/1.1 200 ") == 3

    run(scenario)


def test_a_body_of_two_lengths_is_refused() -> None:
    """A proxy in front may read the other one, and take the rest for the next request."""

    async def scenario(port: int, _: ServerState) -> None:
        for request in (
            CHUNKED,
            CHUNKED.upper().replace(b"HTTP/1.1", b"HTTP/1.1"),
            CHUNKED.replace(b"\r\n", b"\n"),
        ):
            told = await answer_to(port, request + BODY)
            assert told.startswith(b"HTTP/1.1 400 "), request
            assert b'"code":"malformed"' in told

    run(scenario)


def test_a_body_in_crumbs_is_refused_and_one_in_pieces_is_not() -> None:
    head = HEAD.replace(b"GET /", b"POST /body") + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    crumbs, pieces, end = b"1\r\nx\r\n" * 100_000, (b"40\r\n" + b"x" * 64 + b"\r\n") * 3000, b"0\r\n\r\n"

    async def scenario(port: int, _: ServerState) -> None:
        for sent in (crumbs + end, pieces + crumbs + end, crumbs):
            told = await answer_to(port, head + sent)
            assert told.startswith((b"HTTP/1.1 400 ", b"reset")), told[:100]
            assert b"small pieces" in told or told == b"reset"
        for sent in (pieces, crumbs[: 6 * 900]):
            told = await answer_to(port, head + sent + end)
            assert told.startswith(b"HTTP/1.1 200 ")

    run(scenario)
