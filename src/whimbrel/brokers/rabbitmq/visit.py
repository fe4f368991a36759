"""Inspects the queues outside of runs, each time on a channel of its own: depths, a round trip, a purge."""

import asyncio
import secrets
import time
from collections.abc import Mapping

from aio_pika import Message
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from whimbrel.ports.broker import QUEUES, Depth


async def depths(connection: AbstractConnection) -> Mapping[str, Depth]:
    """Returns the depths of all our queues, by passive declarations."""
    queue_depths = {}
    async with connection.channel() as channel:
        for name in QUEUES:
            declared = (await channel.declare_queue(name, passive=True)).declaration_result
            queue_depths[name] = Depth(declared.message_count or 0, declared.consumer_count or 0)
    return queue_depths


async def purge(connection: AbstractConnection, queue: str) -> int:
    """Empties a queue and returns how many messages were ready in it."""
    async with connection.channel() as channel:
        target = await channel.get_queue(queue, ensure=False)
        return (await target.purge()).message_count or 0


async def round_trip(connection: AbstractConnection, exchange: str) -> float:
    """Returns the seconds from publishing, confirmed and mandatory, to receiving a message whose key no worker's queue is bound by."""
    key = f"trial.{secrets.token_hex(8)}"
    back: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def take(message: AbstractIncomingMessage) -> None:
        if message.body == key.encode() and not back.done():
            back.set_result(time.perf_counter())

    async with connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
        queue = await channel.declare_queue(f"app.{key}.queue", exclusive=True, auto_delete=True)
        await queue.bind(exchange, key)
        publishing_exchange = await channel.get_exchange(exchange, ensure=False)
        tag = await queue.consume(take, no_ack=True)
        began = time.perf_counter()
        await publishing_exchange.publish(Message(key.encode()), key)
        took = await back - began
        await queue.cancel(tag)  # with its only consumer the queue is gone
    return took
