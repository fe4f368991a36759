"""The queue as a whole: pointers that are announced to the broker, how deep it is, stopping, emptying, trying again.

Not here: RabbitMQ itself (`whimbrel.brokers`).
Imports `operating`.
"""
