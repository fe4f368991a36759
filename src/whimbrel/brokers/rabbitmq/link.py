"""Keeps one connection to RabbitMQ, and reconnects whenever it is lost.

The driver's own recovery is not used: it has reconnected without consuming. Here, after a lost
connection, a channel that the server closed, or a cancelled consumer, the connection and all on it
are discarded and built again.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from yarl import URL

from whimbrel.brokers.rabbitmq.errors import translated
from whimbrel.errors import BrokerUnavailable, WhimbrelError
from whimbrel.masking import masked_address

log = structlog.get_logger("whimbrel.rabbitmq")

ANSWER = 5.0  # seconds that RabbitMQ has for one answer
HEARTBEAT = 10  # seconds
SLOWEST = 5.0  # seconds between two attempts to connect


class Link:
    """Keeps one connection, and what `build` sets up on it, until it is closed."""

    def __init__(
        self, urls: Sequence[str], name: str, build: Callable[[AbstractConnection, str], Awaitable[None]]
    ) -> None:
        self._urls, self._name, self._build = tuple(urls), name, build
        self._connection: AbstractConnection | None = None
        self._lost = asyncio.Event()
        self._failing = False
        self.up = asyncio.Event()
        self.where = ", ".join(map(masked_address, urls))
        self.last_error: WhimbrelError = BrokerUnavailable(f"RabbitMQ at {self.where} has not answered yet.")

    @property
    def connection(self) -> AbstractConnection:
        """The open connection. Raises the last attempt's error where there is none."""
        if not self.up.is_set() or self._connection is None:
            raise self.last_error
        return self._connection

    async def keep(self) -> None:
        """Connects, builds, waits until the connection is lost, and begins again, until the task is cancelled."""
        pause = 0.1
        clock = asyncio.get_running_loop().time
        try:
            while True:
                self._lost.clear()
                started = clock()
                if await self._connect():
                    if self._failing:
                        log.warning("RabbitMQ is back", connection=self._name)
                    self._failing = False
                    self.up.set()
                    await self._lost.wait()
                    self.up.clear()
                # A connection that is lost at once counts as failed: the server may refuse what it is used for.
                pause = 0.1 if clock() - started > SLOWEST else min(pause * 2, SLOWEST)
                await self._drop()
                await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311  spreads attempts, protects nothing
        finally:
            self._lost.set()  # so that closing is not reported
            self.up.clear()
            await self._drop()

    def reset(self, why: str, lost_connection: AbstractConnection | None = None) -> None:
        """Discards the connection and builds it again. `lost_connection`: only if it is still the current one."""
        if lost_connection is not None and lost_connection is not self._connection:
            return
        if not self._lost.is_set():
            log.warning("the connection to RabbitMQ is made anew", reason=why, connection=self._name)
        self._lost.set()

    async def _connect(self) -> bool:
        for url in random.sample(self._urls, len(self._urls)):
            where = masked_address(url)
            try:
                with translated(where):
                    async with asyncio.timeout(3 * ANSWER):
                        connection = self._connection = aio_pika.Connection(self._complete_url(url))
                        await connection.connect(timeout=ANSWER)
                        connection.close_callbacks.add(partial(self._on_connection_lost, connection))
                        await self._build(connection, where)
            except WhimbrelError as error:
                await self._failed(error)
            except Exception as error:
                # No error of the driver may end the only task that reconnects.
                log.exception("connecting to RabbitMQ broke", connection=self._name)
                await self._failed(
                    BrokerUnavailable(f"RabbitMQ at {where} cannot be used: {type(error).__name__}.")
                )
            else:
                self.where = where
                return True
        return False

    async def _failed(self, error: WhimbrelError) -> None:
        if not self._failing or type(error) is not type(self.last_error):
            log.warning("RabbitMQ cannot be used", reason=str(error), connection=self._name)
        self.last_error, self._failing = error, True
        await self._drop()

    def _on_connection_lost(self, connection: AbstractConnection, *_: object) -> None:
        self.reset("the connection was lost", connection)

    def _complete_url(self, url: str) -> URL:
        address = URL(url)
        parameters = {"heartbeat": str(HEARTBEAT), "name": self._name}
        return address.update_query(
            {key: value for key, value in parameters.items() if key not in address.query}
        )

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed:
            return
        connection.close_callbacks.clear()
        with contextlib.suppress(Exception):  # it is discarded, whatever error closing raises
            async with asyncio.timeout(1):
                await connection.close(ConnectionError("made anew"))

    @property
    async def blocked(self) -> bool:
        """Whether the server has stopped all publishers: it runs out of memory or disk."""
        transport = getattr(self._connection, "transport", None)
        if transport is None:
            return False
        try:
            async with asyncio.timeout(0.05):
                await transport.connection.ready()
        except TimeoutError:
            return True
        return False
