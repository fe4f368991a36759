"""What is decided from the ledger, by one process for each run: planning ahead, adding up, phases, pausing, the end.

Not here: looking at documents; the coordinator has kinds and planning do that.
Imports `kinds`, `queueing`, `planning`, `operating`, and of `executing` what settles a batch.
"""
