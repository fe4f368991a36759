"""Publishes pointers for the coordinator: persistent, confirmed and routed, or an error says why not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Self

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

from whimbrel.brokers.rabbitmq.declare import declare, ready_in
from whimbrel.brokers.rabbitmq.errors import Rejected, translated
from whimbrel.brokers.rabbitmq.link import ANSWER, Link
from whimbrel.brokers.rabbitmq.loop import Loop
from whimbrel.brokers.rabbitmq.pointers import CONTENT_TYPE, encode
from whimbrel.brokers.rabbitmq.topology import LANES, lane_of
from whimbrel.brokers.rabbitmq.visit import depths, purge, round_trip
from whimbrel.domain.runs.batches import Batch, BatchPointer
from whimbrel.domain.runs.run import Run
from whimbrel.errors import BrokerRefused, BrokerUnavailable
from whimbrel.ports.broker import Depth

ALARM_KEY = "alarm"  # no queue is bound by it: what is published with it is dropped
CONFIRMED = 0.8  # seconds: a server without an alarm confirms what it drops in milliseconds


class RabbitBroker:
    """Implements `whimbrel.ports.Broker`. Its connection has no consumers, as an alarm of the server blocks a publishing connection."""

    polled = False

    def __init__(self, urls: Sequence[str], exchange: str, *, name: str) -> None:
        self._loop = Loop("rabbitmq-publisher")
        self._exchange_name = exchange
        self._exchange: AbstractExchange | None = None
        self._link = Link(urls, name, self._build)
        self._loop.spawn(self._link.keep())

    def connect(self, seconds: float) -> None:
        """Waits for the first connection. Raises BrokerUnavailable, BrokerRefused: the last attempt's error."""
        self._loop.call(self._connected(seconds), seconds + ANSWER)

    async def _connected(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._link.up.is_set():
                    if isinstance(self._link.last_error, BrokerRefused):
                        break
                    await asyncio.sleep(0.02)
                else:
                    return
        raise self._link.last_error

    def announce(self, run: Run, batches: Sequence[Batch | BatchPointer]) -> None:
        if batches:
            self._loop.call(self._publish(run, batches), 2 * ANSWER)

    def waiting(self) -> int:
        return self._loop.call(self._count(), 2 * ANSWER)

    def alarmed(self) -> bool:
        return self._loop.call(self._is_alarmed(), ANSWER)

    @property
    def queues(self) -> Self:
        return self

    def depths(self) -> Mapping[str, Depth]:
        return self._loop.call(self._depths(), 2 * ANSWER)

    def round_trip(self, seconds: float) -> float:
        return self._loop.call(self._round_trip(seconds), seconds + ANSWER)

    def purge(self, queue: str) -> int:
        return self._loop.call(self._purge(queue), 2 * ANSWER)

    def close(self) -> None:
        self._loop.close()

    async def _build(self, connection: AbstractConnection, _where: str) -> None:
        await declare(connection, self._exchange_name)
        channel: AbstractChannel = connection.channel(publisher_confirms=True, on_return_raises=True)
        await channel.initialize()
        channel.close_callbacks.add(lambda *_: self._link.reset("the server closed the channel", connection))
        self._exchange = await channel.get_exchange(self._exchange_name, ensure=False)

    async def _publish(self, run: Run, batches: Sequence[Batch | BatchPointer]) -> None:
        async with self._request():
            if self._exchange is None:
                raise self._link.last_error
            await asyncio.gather(
                *(self._exchange.publish(_message(batch), lane_of(run, batch).key) for batch in batches)
            )

    async def _count(self) -> int:
        async with self._request() as connection:
            return sum((await ready_in(connection, LANES)).values())

    async def _depths(self) -> Mapping[str, Depth]:
        async with self._request() as connection:
            return await depths(connection)

    async def _purge(self, queue: str) -> int:
        async with self._request() as connection:
            return await purge(connection, queue)

    async def _round_trip(self, seconds: float) -> float:
        connection = self._link.connection
        await self._check_alarm()
        with translated(self._link.where):  # an error here does not reset the connection
            async with asyncio.timeout(seconds):
                return await round_trip(connection, self._exchange_name)

    @contextlib.asynccontextmanager
    async def _request(self) -> AsyncIterator[AbstractConnection]:
        """Sends one request to the server, with a time limit. Raises BrokerUnavailable, with the reason."""
        connection = self._link.connection
        await self._check_alarm()
        try:
            with translated(self._link.where):
                async with asyncio.timeout(ANSWER):
                    yield connection
        except Rejected as error:
            self._link.last_error = error
            raise
        except BrokerUnavailable as error:
            await self._check_alarm()  # the server reports an alarm only when something is published
            # A queue may be missing: the link declares it again when it reconnects.
            self._link.last_error = error
            self._link.reset(str(error))
            raise

    async def _is_alarmed(self) -> bool:
        """Publishes something, as the server tells only publishers of an alarm. One that tells so confirms nothing, until the alarm is over."""
        _ = self._link.connection
        if await self._link.blocked:
            return True
        if self._exchange is None:
            raise self._link.last_error
        try:
            with translated(self._link.where):
                async with asyncio.timeout(CONFIRMED):
                    await self._exchange.publish(Message(b""), ALARM_KEY, mandatory=False)
        except BrokerUnavailable:
            if await self._link.blocked:
                return True
            raise
        return False

    async def _check_alarm(self) -> None:
        if await self._link.blocked:
            raise BrokerUnavailable(
                f"RabbitMQ at {self._link.where} has stopped all publishers: it runs out of memory or disk."
            )


def _message(batch: Batch | BatchPointer) -> Message:
    return Message(
        encode(batch), content_type=CONTENT_TYPE, message_id=batch.token, delivery_mode=DeliveryMode.PERSISTENT
    )  # fmt: skip
