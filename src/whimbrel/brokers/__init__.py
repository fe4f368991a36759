"""How worker slots hear that there is work: from RabbitMQ, or by looking into the ledger.

Not here: claiming a batch, which only the ledger can grant. Implements `whimbrel.ports.Broker`; the engine never imports it.
"""
