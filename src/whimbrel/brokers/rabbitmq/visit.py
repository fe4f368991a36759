"""What the queues are asked from outside a run, each on a channel of its own: depths, a message there and back, a purge."""

import asyncio
import secrets
import time
from collections.abc import Mapping

from aio_pika import Message
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from whimbrel.ports.broker import QUEUES, Depth


async def depths(connection: AbstractConnection) -> Mapping[str, Depth]:
    """All queues of ours, by passive declarations."""
    found = {}
    async with connection.channel() as channel:
        for name in QUEUES:
            told = (await channel.declare_queue(name, passive=True)).declaration_result
            found[name] = Depth(told.message_count or 0, told.consumer_count or 0)
    return found


async def purge(connection: AbstractConnection, queue: str) -> int:
    """How many messages were ready in it."""
    async with connection.channel() as channel:
        found = await channel.get_queue(queue, ensure=False)
        return (await found.purge()).message_count or 0


async def round_trip(connection: AbstractConnection, exchange: str) -> float:
    """Seconds from publishing, confirmed and mandatory, until the message is back. No worker's queue is bound by its key."""
    key = f"trial.{secrets.token_hex(8)}"
    back: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def take(message: AbstractIncomingMessage) -> None:
        if message.body == key.encode() and not back.done():
            back.set_result(time.perf_counter())

    async with connection.channel(publisher_confirms=True, on_return_raises=True) as channel:
        queue = await channel.declare_queue(f"app.{key}.queue", exclusive=True, auto_delete=True)
        await queue.bind(exchange, key)
        through = await channel.get_exchange(exchange, ensure=False)
        tag = await queue.consume(take, no_ack=True)
        began = time.perf_counter()
        await through.publish(Message(key.encode()), key)
        took = await back - began
        await queue.cancel(tag)  # with its only consumer the queue is gone
    return took
