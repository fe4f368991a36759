"""Declares the exchanges and queues of the table, or checks existing ones."""

from aio_pika import ExchangeType
from aio_pika.abc import AbstractConnection, AbstractExchange
from aiormq.exceptions import ChannelPreconditionFailed

from whimbrel.brokers.rabbitmq.topology import (
    DEAD_LETTER_ARGUMENTS,
    DEAD_LETTER_EXCHANGE,
    DEAD_LETTER_QUEUE,
    LANES,
    Lane,
    generations,
    mismatch,
    version_of,
)
from whimbrel.errors import BrokerRefused


async def declare(connection: AbstractConnection, exchange: str) -> None:
    """Declares everything, each on a channel of its own, as a refusal closes the channel.

    Raises BrokerRefused where something of that name exists with other properties.
    """
    arguments = generations(version_of(_version(connection)))
    await _exchange(connection, DEAD_LETTER_EXCHANGE)
    await _exchange(connection, exchange)
    await _queue(connection, DEAD_LETTER_QUEUE, DEAD_LETTER_EXCHANGE, "#", [DEAD_LETTER_ARGUMENTS])
    for lane in LANES:
        await _queue(connection, lane.queue, exchange, lane.key, arguments)


def _version(connection: AbstractConnection) -> str:
    version = (
        connection.transport.connection.server_properties.get("version", "") if connection.transport else ""
    )
    return version.decode() if isinstance(version, bytes) else str(version)


async def _exchange(connection: AbstractConnection, name: str) -> AbstractExchange:
    channel = connection.channel()
    async with channel:
        try:
            return await channel.declare_exchange(name, ExchangeType.TOPIC, durable=True)
        except ChannelPreconditionFailed as error:
            raise BrokerRefused(
                f"The exchange {name!r} on the broker is not a durable topic exchange: {error}. Delete it, or give Whimbrel "
                "a virtual host of its own in RABBITMQ_URL."
            ) from error


async def _queue(
    connection: AbstractConnection, name: str, exchange: str, key: str, arguments: list[dict[str, object]]
) -> None:
    refusal: ChannelPreconditionFailed | None = None
    for accepted in arguments:
        channel = connection.channel()
        try:
            async with channel:
                queue = await channel.declare_queue(name, durable=True, arguments=dict(accepted))  # type: ignore[arg-type]
                await queue.bind(exchange, key)
                return
        except ChannelPreconditionFailed as error:
            refusal = refusal or error
    if refusal is not None:
        raise mismatch(name, str(refusal)) from refusal


async def ready_in(connection: AbstractConnection, lanes: tuple[Lane, ...]) -> dict[str, int]:
    """Returns how many messages are ready in the queues of these lanes. Raises the driver's error for a missing queue."""
    channel = connection.channel()
    async with channel:
        return {
            lane.name: (
                await channel.declare_queue(lane.queue, passive=True)
            ).declaration_result.message_count
            or 0
            for lane in lanes
        }
