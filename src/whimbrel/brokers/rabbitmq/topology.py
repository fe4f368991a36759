"""Defines the exchanges and queues, and the arguments that a server of a given version accepts.

The arguments of a queue cannot be changed in place. A queue that was made by an older server's rules, and that
still exists after the server's upgrade, is therefore accepted as it is: `generations`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whimbrel.domain.runs.batches import Batch, BatchPointer
from whimbrel.domain.runs.run import Run
from whimbrel.errors import BrokerRefused
from whimbrel.ports import broker as port
from whimbrel.ports.broker import LANE_QUEUES, LaneName, lane_name

DEAD_LETTER_EXCHANGE = "app.deadletter.exchange"
OLDEST = (3, 10)  # quorum queues that dead-letter and reject as they should
LONGEST = 10_000  # pointers in a queue; coordinators keep a few for each slot, so it is never reached
# How often a pointer is returned until it is dead-lettered: a safety net, as the ledger counts attempts. The consumer counts; the
# server's limit is for pointers whose consumers die.
DELIVERIES = 100
CONSUMER_TIMEOUT = 60 * 60 * 1000  # milliseconds from delivery to acknowledgement
DEAD_LETTERS = 100_000  # kept; the oldest are dropped first


@dataclass(frozen=True, slots=True)
class Lane:
    """A queue that workers take from, and the routing key that leads to it."""

    name: LaneName
    queue: str
    key: str


# In the order in which a free slot tries them.
LANES = (
    Lane("priority", LANE_QUEUES["priority"], "batch.priority"),
    Lane("retry", LANE_QUEUES["retry"], "batch.retry"),
    Lane("processing", LANE_QUEUES["processing"], "batch.processing"),
)
DEAD_LETTER_QUEUE = port.DEAD_LETTER_QUEUE


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument of the working queues, and the first server that knows it."""

    name: str
    value: Any
    since: tuple[int, int] = OLDEST


ARGUMENTS = (
    Argument("x-queue-type", "quorum"),
    Argument("x-max-length", LONGEST),
    Argument("x-overflow", "reject-publish"),
    Argument("x-delivery-limit", DELIVERIES),
    Argument("x-dead-letter-exchange", DEAD_LETTER_EXCHANGE),
    Argument("x-consumer-timeout", CONSUMER_TIMEOUT, since=(3, 12)),
)
DEAD_LETTER_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-max-length": DEAD_LETTERS,
    "x-overflow": "drop-head",
}


def version_of(text: str) -> tuple[int, int]:
    """Returns major and minor of a server's version. Raises BrokerRefused where it is too old, or unreadable."""
    match = re.match(r"(\d+)\.(\d+)", text)
    if match is None:
        raise BrokerRefused(
            f"The broker says that its version is {text!r}. Whimbrel needs RabbitMQ {OLDEST[0]}.{OLDEST[1]} or newer."
        )
    version = int(match[1]), int(match[2])
    if version < OLDEST:
        raise BrokerRefused(
            f"RabbitMQ {text} is too old. Whimbrel needs {OLDEST[0]}.{OLDEST[1]} or newer: upgrade the server."
        )
    return version


def generations(version: tuple[int, int]) -> list[dict[str, Any]]:
    """Returns the arguments of a working queue by the newest rules, then those by older servers' rules."""
    steps = sorted({argument.since for argument in ARGUMENTS if argument.since <= version}, reverse=True)
    return [
        {argument.name: argument.value for argument in ARGUMENTS if argument.since <= step} for step in steps
    ]


def lane_of(run: Run, batch: Batch | BatchPointer) -> Lane:
    """Returns the lane of a batch's pointer."""
    name = lane_name(urgent=run.urgent, retry=batch.retry)
    return next(lane for lane in LANES if lane.name == name)


def lanes(names: Sequence[str]) -> tuple[Lane, ...]:
    """Returns the lanes with these names, in the order of the table."""
    return tuple(lane for lane in LANES if lane.name in names)


def mismatch(queue: str, reply: str) -> BrokerRefused:
    """Explains the server's refusal of a declaration: the queue, the argument, both values, the remedy."""
    match = re.search(r"inequivalent arg '([^']+)'.*?received (.*?) but current is (.*)$", reply)
    difference = (
        f"its argument {match[1]} is {_value(match[3])} on the server, and Whimbrel needs {_value(match[2])}"
        if match
        else reply
    )
    return BrokerRefused(
        f"The queue {queue!r} on the broker is not as Whimbrel needs it: {difference}. The arguments of a queue cannot be changed: "
        f"stop whoever else uses it and delete the queue (rabbitmqctl delete_queue {queue}), or give Whimbrel a virtual host of its own in RABBITMQ_URL. "
        "No batch is lost: the ledger announces them again."
    )


def _value(text: str) -> str:
    """`the value '10' of type 'signedint'` is 10."""
    match = re.search(r"value '([^']*)'", text)
    if match:
        return match[1]
    return "not set" if "none" in text else text.strip(" '")
