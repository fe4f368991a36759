"""What one process for each run decides from the ledger: planning ahead, adding up, phases, pausing, the end.

Not here: looking at documents; the coordinator leaves that to kinds and planning.
Imports `kinds`, `queueing`, `planning`, `operating`, and of `executing` what settles a batch.
"""
