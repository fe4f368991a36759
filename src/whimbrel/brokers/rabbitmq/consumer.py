"""Consumes pointers for a worker process, by lanes, and acknowledges them when their batch is settled.

The ledger holds the claim, not the broker: a lost channel loses only the acknowledgement, and the
batch being executed goes on. When its pointer is delivered again, the row is already claimed.
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage

from whimbrel.brokers.rabbitmq.declare import declare, ready_in
from whimbrel.brokers.rabbitmq.errors import translated
from whimbrel.brokers.rabbitmq.link import ANSWER, Link
from whimbrel.brokers.rabbitmq.loop import Loop
from whimbrel.brokers.rabbitmq.pointers import NotOursError, decode
from whimbrel.brokers.rabbitmq.topology import DEAD_LETTER_EXCHANGE, DELIVERIES, LANES, Lane
from whimbrel.brokers.rabbitmq.turns import HEADER, headers_after_return, return_count
from whimbrel.errors import WhimbrelError

log = structlog.get_logger("whimbrel.rabbitmq")

STRIKES = 3  # consecutive checks that find ready messages of which none is delivered
REBUILDS = 3  # consecutive reconnections for that reason, until the process gives up


class RabbitDelivery:
    """Implements `whimbrel.ports.Delivery`."""

    def __init__(self, feed: "RabbitFeed", lane: Lane, message: AbstractIncomingMessage, token: str) -> None:
        self._feed, self._lane, self._message = feed, lane, message
        self.token: str | None = token

    def acknowledge(self) -> None:
        self._feed.answer(self._lane, self._message, self._message.ack)

    def give_back(self) -> None:
        self._feed.answer(self._lane, self._message, partial(self._feed.hand_back, self._message))

    def pass_on(self) -> None:
        self._feed.answer(self._lane, self._message, partial(self._feed.pass_on, self._message))

    def refuse(self, why: str) -> None:
        self._feed.answer(self._lane, self._message, partial(self._feed.dead_letter, self._message, why))


class RabbitFeed:
    """Implements `whimbrel.ports.Feed`.

    `prefetch`: pointers that a consumer holds unacknowledged, at least one for each slot. `look`: seconds
    between two checks that a connected consumer receives messages. `give_up` is called when it repeatedly does not.
    """

    polled = False

    def __init__(
        self,
        urls: Sequence[str],
        exchange: str,
        *,
        name: str,
        lanes: tuple[Lane, ...] = LANES,
        prefetch: int,
        look: float,
        give_up: Callable[[], None],
    ) -> None:
        self._exchange_name, self._lanes, self._prefetch = exchange, lanes, prefetch
        self._look, self._give_up = look, give_up
        self._arrived = threading.Condition()
        self._held: dict[str, deque[RabbitDelivery]] = {lane.name: deque() for lane in lanes}
        self._unacknowledged: dict[str, set[AbstractIncomingMessage]] = {lane.name: set() for lane in lanes}
        self._dead_lettered = 0
        self._deliveries = 0
        self._closed = False
        self._channels: list[AbstractChannel] = []
        self._answers: set[Any] = set()
        self._loop = Loop("rabbitmq-consumer")
        self._link = Link(urls, name, self._build)
        self._dead_letter_link = Link(urls, f"{name} dead letters", self._declare)
        self._dead_letter_link_started = False
        self._loop.spawn(self._link.keep())
        self._loop.spawn(self._supervise())

    def next(self, seconds: float, *, urgent: bool) -> RabbitDelivery | None:
        with self._arrived:
            self._arrived.wait_for(lambda: self._closed or self._next_queue(urgent=urgent), seconds)
            queue = None if self._closed else self._next_queue(urgent=urgent)
            return queue.popleft() if queue else None

    def _next_queue(self, *, urgent: bool) -> deque[RabbitDelivery] | None:
        lanes = [lane for lane in self._lanes if lane.name == "priority" or not urgent]
        return next((self._held[lane.name] for lane in lanes if self._held[lane.name]), None)

    def close(self) -> None:
        """Closes the connection, which returns pointers that no slot has taken."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        self._loop.call(self._wait_for_answers(), ANSWER)
        self._loop.close()

    async def _wait_for_answers(self) -> None:
        """Waits for acknowledgements under way."""
        if self._answers:
            await asyncio.wait(self._answers, timeout=1)

    def answer(
        self, lane: Lane, message: AbstractIncomingMessage, act: Callable[[], Awaitable[None]]
    ) -> None:
        """Answers a delivery, in the connection's thread. A lost channel is normal: it is delivered again, without effect."""

        async def answered() -> None:
            task = asyncio.current_task()
            self._answers.add(task)
            try:
                with translated(self._link.where):
                    async with asyncio.timeout(4 * ANSWER):
                        await act()
            except WhimbrelError as error:
                await self._handle_failed_answer(message, error)
            finally:
                self._unacknowledged[lane.name].discard(message)
                self._answers.discard(task)

        self._loop.spawn(answered())

    # in the connection's thread

    async def _build(self, connection: AbstractConnection, _where: str) -> None:
        self._forget()
        await declare(connection, self._exchange_name)
        self._channels = []
        for lane in self._lanes:
            channel = connection.channel()
            await channel.initialize()
            channel.close_callbacks.add(
                lambda *_: self._link.reset("the server closed a channel", connection)
            )
            underlay = await channel.get_underlay_channel()
            underlay.on_consumer_cancel_callbacks.add(
                lambda *_: self._link.reset("the server cancelled a consumer", connection)
            )
            await channel.set_qos(prefetch_count=self._prefetch)
            queue = await channel.get_queue(lane.queue, ensure=False)
            await queue.consume(partial(self._receive, lane), timeout=ANSWER)
            self._channels.append(channel)

    def _forget(self) -> None:
        """Forgets the deliveries of a lost connection: the server delivers them again, also those that a slot works on."""
        with self._arrived:
            for deliveries in self._held.values():
                deliveries.clear()
        self._unacknowledged = {lane.name: set() for lane in self._lanes}

    async def _receive(self, lane: Lane, message: AbstractIncomingMessage) -> None:
        self._deliveries += 1
        self._unacknowledged[lane.name].add(message)
        try:
            token = decode(message.body)
        except NotOursError as error:
            self.answer(lane, message, partial(self.dead_letter, message, str(error)))
            return
        with self._arrived:
            self._held[lane.name].append(RabbitDelivery(self, lane, message, token))
            self._arrived.notify_all()

    async def dead_letter(self, message: AbstractIncomingMessage, why: str, **headers: Any) -> None:
        """Copies a message to the dead-letter queue with the reason, confirmed, and only then acknowledges it."""
        self._dead_lettered += 1
        if self._dead_lettered.bit_count() == 1:  # 1, 2, 4, 8, so that many messages do not flood the log
            log.warning(
                "messages are laid aside",
                reason=why,
                key=message.routing_key,
                so_far=self._dead_lettered,
            )
        reason_headers = {"x-whimbrel-reason": why, "x-whimbrel-key": message.routing_key or ""}
        await self._copy(message, DEAD_LETTER_EXCHANGE, {**message.headers, **headers, **reason_headers})
        await message.ack()

    async def hand_back(self, message: AbstractIncomingMessage) -> None:
        """Returns a message for another consumer. Rejects it, which every version of the server counts."""
        if not await self._dead_letter_if_returned_too_often(message):
            await message.reject(requeue=True)

    async def pass_on(self, message: AbstractIncomingMessage) -> None:
        """Moves a message to the end of its lane; if given back, it would be delivered first again."""
        if not await self._dead_letter_if_returned_too_often(message):
            await self._copy(message, self._exchange_name, headers_after_return(message.headers))
            await message.ack()

    async def _dead_letter_if_returned_too_often(self, message: AbstractIncomingMessage) -> bool:
        """Dead-letters a message that was returned too often, and returns whether it did; its batch is announced again."""
        headers = headers_after_return(message.headers)
        times = return_count(headers)
        if times < DELIVERIES:
            return False
        await self.dead_letter(message, f"turned away {times} times", **{HEADER: times})
        return True

    async def _copy(self, message: AbstractIncomingMessage, exchange: str, headers: dict[str, Any]) -> None:
        if not self._dead_letter_link_started:
            self._dead_letter_link_started = True
            self._loop.spawn(self._dead_letter_link.keep())
        await self._dead_letter_link.up.wait()
        copy = Message(
            message.body, headers=headers, content_type=message.content_type,
            message_id=message.message_id, delivery_mode=DeliveryMode.PERSISTENT,
        )  # fmt: skip
        async with self._dead_letter_link.connection.channel(on_return_raises=True) as channel:
            target = await channel.get_exchange(exchange, ensure=False)
            await target.publish(copy, message.routing_key or "unknown", timeout=ANSWER)

    async def _handle_failed_answer(self, message: AbstractIncomingMessage, error: WhimbrelError) -> None:
        """Handles a failed answer: the channel is gone, or the message could not be copied, and the server must dead-letter it."""
        if message.channel.is_closed:
            log.debug("not acknowledged", reason=str(error))
            return
        log.warning("a delivery could not be answered as it should", reason=str(error))
        self._dead_letter_link.reset(str(error))
        with contextlib.suppress(Exception):  # on an error the channel is gone after all
            await message.nack(requeue=False)

    async def _declare(self, connection: AbstractConnection, _where: str) -> None:
        await declare(connection, self._exchange_name)

    async def _supervise(self) -> None:
        strikes = rebuilds = 0
        while True:
            before = self._deliveries
            await asyncio.sleep(self._look)
            if not self._link.up.is_set():
                continue
            if self._deliveries > before:
                strikes = rebuilds = 0
                continue
            strikes = strikes + 1 if await self._has_undelivered_messages() else 0
            if strikes < STRIKES:
                continue
            strikes, rebuilds = 0, rebuilds + 1
            if rebuilds > REBUILDS:
                log.error("connected to RabbitMQ but nothing is delivered; the process ends")
                self._give_up()
                return
            self._link.reset("messages lie ready, and none is delivered")

    async def _has_undelivered_messages(self) -> bool:
        """Whether there are ready messages that the server should have delivered. Reconnects if the server does not answer."""
        try:
            with translated(self._link.where):
                async with asyncio.timeout(ANSWER):
                    ready = await ready_in(self._link.connection, self._lanes)
        except WhimbrelError as error:
            self._link.reset(str(error))
            return False
        return any(
            ready[lane.name] and len(self._unacknowledged[lane.name]) < self._prefetch for lane in self._lanes
        )
