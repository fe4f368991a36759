"""Translates the driver's errors into Whimbrel's."""

import asyncio
import contextlib
from collections.abc import Iterator

from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelAccessRefused,
    ChannelLockedResource,
    ConnectionNotAllowed,
    DeliveryError,
    InvalidFrameError,
    ProbableAuthenticationError,
    PublishError,
)

from whimbrel.errors import NO_ADDRESS, NO_TLS, BrokerRefused, BrokerUnavailable, WhimbrelError


class Rejected(BrokerUnavailable):
    """The server rejects what is published: the queue is full, or has just lost its leader."""


# The first that fits is used. `{where}` is the masked address, `{error}` the driver's message.
MEANINGS: tuple[tuple[tuple[type[BaseException], ...], type[WhimbrelError], str], ...] = (
    (
        (AuthenticationError, ProbableAuthenticationError),
        BrokerRefused,
        "RabbitMQ at {where} refused the user name or password. Check RABBITMQ_URL.",
    ),
    (
        (ConnectionNotAllowed, ChannelAccessRefused, ChannelLockedResource),
        BrokerRefused,
        "RabbitMQ at {where} does not allow this: {error}. Check the virtual host in RABBITMQ_URL and the user's permissions.",
    ),
    (
        (InvalidFrameError,),  # raised when the server closes instead of opening
        BrokerRefused,
        "RabbitMQ at {where} does not let this user into the virtual host, or there is none of that name. Check RABBITMQ_URL.",
    ),
    ((PublishError,), BrokerUnavailable, "A queue is missing at {where}: {error}."),
    (
        (DeliveryError,),
        Rejected,
        "RabbitMQ at {where} rejects pointers: a queue is full, or has just lost its leader ({error}).",
    ),
    (
        (TimeoutError,),
        BrokerUnavailable,
        "RabbitMQ at {where} did not answer in time. Is it running, and is RABBITMQ_URL right?",
    ),
    (
        (AMQPError, OSError, EOFError, RuntimeError),  # RuntimeError: the connection is closed
        BrokerUnavailable,
        "RabbitMQ at {where} cannot be reached: {error}. Is it running, and is RABBITMQ_URL right?",
    ),
    # The driver cancels tasks that wait on a lost connection.
    ((asyncio.CancelledError,), BrokerUnavailable, "The connection to RabbitMQ at {where} was lost."),
)


@contextlib.contextmanager
def translated(where: str) -> Iterator[None]:
    """Turns the driver's errors into ours. `where` is the masked address."""
    try:
        yield
    except WhimbrelError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise  # this task is being cancelled
        for kinds, meaning, sentence in MEANINGS:
            if isinstance(error, kinds):
                ours = meaning(sentence.format(where=where, error=_text(error)))
                raise ours.in_short(_short_reason(ours, where)) from error
        raise


def _short_reason(error: WhimbrelError, where: str) -> str:
    if isinstance(error, Rejected):
        return f"RabbitMQ at {where} rejects pointers: a queue is full, or has just lost its leader."
    if isinstance(error, BrokerUnavailable):
        if any(part in str(error) for part in NO_TLS):
            return f"RabbitMQ at {where} and Whimbrel do not agree on TLS: check the certificates, and scheme and port in RABBITMQ_URL."
        if any(part in str(error) for part in NO_ADDRESS):
            return f"The host of {where} is not known to the network: check RABBITMQ_URL."
        return f"RabbitMQ at {where} does not answer: check that it runs, and that RABBITMQ_URL is right."
    return f"RabbitMQ at {where} does not let us in: check RABBITMQ_URL, and what its user may do."


def _text(error: BaseException) -> str:
    return str(error).strip().rstrip(".")[:200] or type(error).__name__
