"""A worker process's side: pointers come in by lanes, and are acknowledged when their batch is settled.

The claim is the ledger's, not the broker's: a channel that is lost costs nothing but the
acknowledgement, and the batch in hand goes on. Delivered again, its pointer finds the row taken.
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
from whimbrel.brokers.rabbitmq.turns import HEADER, once_more, turned_away
from whimbrel.errors import WhimbrelError

log = structlog.get_logger("whimbrel.rabbitmq")

STRIKES = 3  # looks in a row at a queue that holds messages while none is delivered that may be
REBUILDS = 3  # connections built for that reason in a row, until the process gives up


class RabbitDelivery:
    """See `whimbrel.ports.Delivery`."""

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
        self._feed.answer(self._lane, self._message, partial(self._feed.lay_aside, self._message, why))


class RabbitFeed:
    """See `whimbrel.ports.Feed`.

    `prefetch`: pointers that a consumer holds unacknowledged, at least one for each slot. `look`: seconds
    between two looks whether what is connected also consumes. `give_up` is called when it does not, again and again.
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
        self._owed: dict[str, set[AbstractIncomingMessage]] = {
            lane.name: set() for lane in lanes
        }  # not answered yet
        self._laid_aside = 0
        self._deliveries = 0
        self._closed = False
        self._channels: list[AbstractChannel] = []
        self._answers: set[Any] = set()
        self._loop = Loop("rabbitmq-consumer")
        self._link = Link(urls, name, self._build)
        self._aside = Link(urls, f"{name} dead letters", self._declare)
        self._aside_kept = False
        self._loop.spawn(self._link.keep())
        self._loop.spawn(self._supervise())

    def next(self, seconds: float, *, urgent: bool) -> RabbitDelivery | None:
        with self._arrived:
            self._arrived.wait_for(lambda: self._closed or self._any(urgent=urgent), seconds)
            queue = None if self._closed else self._any(urgent=urgent)
            return queue.popleft() if queue else None

    def _any(self, *, urgent: bool) -> deque[RabbitDelivery] | None:
        lanes = [lane for lane in self._lanes if lane.name == "priority" or not urgent]
        return next((self._held[lane.name] for lane in lanes if self._held[lane.name]), None)

    def close(self) -> None:
        """What lies here unlooked at goes back when the connection is closed."""
        with self._arrived:
            self._closed = True
            self._arrived.notify_all()
        self._loop.call(self._answered(), ANSWER)
        self._loop.close()

    async def _answered(self) -> None:
        """Wait for acknowledgements under way."""
        if self._answers:
            await asyncio.wait(self._answers, timeout=1)

    def answer(
        self, lane: Lane, message: AbstractIncomingMessage, act: Callable[[], Awaitable[None]]
    ) -> None:
        """Answer a delivery, in the connection's thread. That its channel is gone is normal: it comes again, to no effect."""

        async def answered() -> None:
            task = asyncio.current_task()
            self._answers.add(task)
            try:
                with translated(self._link.where):
                    async with asyncio.timeout(4 * ANSWER):
                        await act()
            except WhimbrelError as error:
                await self._unanswered(message, error)
            finally:
                self._owed[lane.name].discard(message)
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
        """Deliveries of a lost connection: the server delivers them again, those that a slot works on too."""
        with self._arrived:
            for each in self._held.values():
                each.clear()
        self._owed = {lane.name: set() for lane in self._lanes}

    async def _receive(self, lane: Lane, message: AbstractIncomingMessage) -> None:
        self._deliveries += 1
        self._owed[lane.name].add(message)
        try:
            token = decode(message.body)
        except NotOursError as error:
            self.answer(lane, message, partial(self.lay_aside, message, str(error)))
            return
        with self._arrived:
            self._held[lane.name].append(RabbitDelivery(self, lane, message, token))
            self._arrived.notify_all()

    async def lay_aside(self, message: AbstractIncomingMessage, why: str, **headers: Any) -> None:
        """Into the dead-letter queue with the reason, confirmed, and only then off the lane."""
        self._laid_aside += 1
        if self._laid_aside.bit_count() == 1:  # 1, 2, 4, 8: a flood of them is no flood of lines
            log.warning(
                "messages are laid aside",
                reason=why,
                key=message.routing_key,
                so_far=self._laid_aside,
            )
        told = {"x-whimbrel-reason": why, "x-whimbrel-key": message.routing_key or ""}
        await self._copy(message, DEAD_LETTER_EXCHANGE, {**message.headers, **headers, **told})
        await message.ack()

    async def hand_back(self, message: AbstractIncomingMessage) -> None:
        """Somebody else shall have it. Rejected, for that counts in every version of the server."""
        if not await self._had_enough(message):
            await message.reject(requeue=True)

    async def pass_on(self, message: AbstractIncomingMessage) -> None:
        """To the end of its lane, behind what others wait for: given back, it would be the first to come again."""
        if not await self._had_enough(message):
            await self._copy(message, self._exchange_name, once_more(message.headers))
            await message.ack()

    async def _had_enough(self, message: AbstractIncomingMessage) -> bool:
        """Whether this is the last time that it is turned away: then it is laid aside, and its batch is announced again."""
        headers = once_more(message.headers)
        times = turned_away(headers)
        if times < DELIVERIES:
            return False
        await self.lay_aside(message, f"turned away {times} times", **{HEADER: times})
        return True

    async def _copy(self, message: AbstractIncomingMessage, exchange: str, headers: dict[str, Any]) -> None:
        if not self._aside_kept:
            self._aside_kept = True
            self._loop.spawn(self._aside.keep())
        await self._aside.up.wait()
        copy = Message(
            message.body, headers=headers, content_type=message.content_type,
            message_id=message.message_id, delivery_mode=DeliveryMode.PERSISTENT,
        )  # fmt: skip
        async with self._aside.connection.channel(on_return_raises=True) as channel:
            to = await channel.get_exchange(exchange, ensure=False)
            await to.publish(copy, message.routing_key or "unknown", timeout=ANSWER)

    async def _unanswered(self, message: AbstractIncomingMessage, error: WhimbrelError) -> None:
        """Its channel is gone; or it could not be laid aside or passed on, and the server shall do that its own way."""
        if message.channel.is_closed:
            log.debug("not acknowledged", reason=str(error))
            return
        log.warning("a delivery could not be answered as it should", reason=str(error))
        self._aside.reset(str(error))
        with contextlib.suppress(Exception):  # then the channel is gone after all
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
            strikes = strikes + 1 if await self._starving() else 0
            if strikes < STRIKES:
                continue
            strikes, rebuilds = 0, rebuilds + 1
            if rebuilds > REBUILDS:
                log.error("connected to RabbitMQ but nothing is delivered; the process ends")
                self._give_up()
                return
            self._link.reset("messages lie ready, and none is delivered")

    async def _starving(self) -> bool:
        """Whether messages lie ready that the server should have delivered. A connection that does not even say so is made anew."""
        try:
            with translated(self._link.where):
                async with asyncio.timeout(ANSWER):
                    ready = await ready_in(self._link.connection, self._lanes)
        except WhimbrelError as error:
            self._link.reset(str(error))
            return False
        return any(ready[lane.name] and len(self._owed[lane.name]) < self._prefetch for lane in self._lanes)
