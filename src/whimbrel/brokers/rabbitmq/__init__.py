"""RabbitMQ carries the pointers: many hosts, one run."""

from whimbrel.brokers.rabbitmq.addresses import masked, urls_of
from whimbrel.brokers.rabbitmq.consumer import RabbitFeed
from whimbrel.brokers.rabbitmq.publisher import RabbitBroker
from whimbrel.brokers.rabbitmq.topology import LANES, lanes

__all__ = ["LANES", "RabbitBroker", "RabbitFeed", "lanes", "masked", "urls_of"]
