"""RabbitMQ carries the pointers: many hosts, one run.

Nothing is imported here: its driver takes a good part of a process's start, and most processes have no RabbitMQ.
"""
