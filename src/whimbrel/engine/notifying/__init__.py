"""Webhooks: makes deliveries of what runs have to tell, notices runs without progress, and sends, in one process of the cluster.

Not here: how an event gets into a run's row (`mongo/ledger/run_events`), and how a request is made (`webhooks`).
Imports operating.
"""
