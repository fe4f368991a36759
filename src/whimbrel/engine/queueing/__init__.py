"""The queue as a whole: announcing pointers to the broker, its depth, stopping, emptying, retrying.

Not here: RabbitMQ itself (`whimbrel.brokers`).
Imports `operating`.
"""
