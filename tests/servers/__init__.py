"""Real servers for tests, on loopback, in temporary folders: RabbitMQ nodes, replica sets, and a faulty network.

No server of the user is ever used or touched, and none of these outlives the process that started it.
"""
