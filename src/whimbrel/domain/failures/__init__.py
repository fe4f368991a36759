"""A document that failed: what is recorded of it, what follows from that, and what failures of one cause share.

Not here: where the records are kept (`whimbrel.mongo.ledger`).
Imports `bson`, `text`.
"""
