"""A network between a client and a server, to be cut, frozen and slowed: `with Proxy("127.0.0.1", port) as proxy: ...`.

A MongoDB client that knows a replica set goes past it, to the addresses that the members tell it:
use directConnection=true in the URI.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from itertools import cycle
from types import TracebackType
from typing import Any, Final, Self

from pymongo.uri_parser import parse_uri

from tests.servers.processes import free_ports

_PIECE: Final = 65_536  # bytes
_CALL_SECONDS: Final = 10.0
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, as a broken network does


def through(uri: str, port: int, **options: object) -> str:
    """The address of a MongoDB by way of a proxy's port: the same account, no other member."""
    known = parse_uri(uri)
    account = f"{known['username']}:{known['password']}@" if known["username"] else ""
    pairs = {"directConnection": "true", **({"authSource": "admin"} if account else {}), **options}
    return f"mongodb://{account}127.0.0.1:{port}/?" + "&".join(
        f"{name}={value}" for name, value in pairs.items()
    )


class Proxy:
    """Listens on `port` of 127.0.0.1 and passes on what it gets, both ways, in a thread of its own."""

    def __init__(self, target_host: str, target_port: int) -> None:
        self._targets = cycle([(target_host, target_port)])
        (self.port,) = free_ports(1)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._rate: float | None = None  # bytes per second, each way of each connection
        self._delay = 0.0  # seconds
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self.heal()

    def cut(self) -> None:
        """Resets all connections and refuses new ones."""
        self._call(self._cut())

    def heal(self) -> None:
        """Takes connections again, on the same port."""
        self._call(self._listen())

    def churn(self) -> None:
        """Resets the connections there are; new ones are welcome."""
        self._call(self._reset())

    def freeze(self) -> None:
        """Passes no byte and no end of a connection on; new connections are taken, and hang."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def thaw(self) -> None:
        """What was held back goes its way."""
        self._loop.call_soon_threadsafe(self._flowing.set)

    def slow(self, *, bytes_per_second: float | None = None, delay: float = 0.0) -> None:
        """Each way of each connection has this rate; each piece of at most 64 KiB comes `delay` seconds late.

        Without arguments: as fast as it can. For what comes from now on.
        """
        self._rate, self._delay = bytes_per_second, delay

    def connections(self) -> int:
        """How many are open."""
        return len(self._writers) // 2

    def close(self) -> None:
        if not self._loop.is_closed():
            self._call(self._cut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_CALL_SECONDS)
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_CALL_SECONDS)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        for writer in list(self._writers):
            _abort(writer)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # In a task that we keep: the one of asyncio's server is not ours to cancel.
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            await self._flowing.wait()
            far_reader, far = await asyncio.open_connection(*next(self._targets))
            self._writers.add(far)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._pass(reader, far))
                ways.create_task(self._pass(far_reader, writer))
        except* OSError:  # the target is not there, or one side has gone: so goes the other
            pass
        finally:
            for each in (writer, far):
                if each is not None:
                    self._writers.discard(each)
                    _abort(each)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(self._size()):
            if self._delay:
                await asyncio.sleep(self._delay)
            if self._rate:
                await asyncio.sleep(len(piece) / self._rate)
            await self._flowing.wait()
            writer.write(piece)
            await writer.drain()
        await self._flowing.wait()
        with suppress(OSError):
            writer.write_eof()

    def _size(self) -> int:
        """With a rate, pieces of a twentieth of a second: so the stream is slow, not jerky."""
        return _PIECE if self._rate is None else max(1, min(_PIECE, int(self._rate / 20)))


class Balancer(Proxy):
    """A front of several servers: each connection goes to the next of these ports of 127.0.0.1."""

    def __init__(self, *ports: int) -> None:
        super().__init__("127.0.0.1", ports[0])
        self._targets = cycle([("127.0.0.1", port) for port in ports])


def _abort(writer: asyncio.StreamWriter) -> None:
    """After a proper end of both sides, which closed it already, there is nothing to reset."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
