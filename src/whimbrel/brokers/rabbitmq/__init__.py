"""Carries the pointers by RabbitMQ, for runs on many hosts.

Imports nothing here: the driver takes a good part of a process's start, and most processes have no RabbitMQ.
"""
