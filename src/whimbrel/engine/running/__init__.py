"""What a worker process does: slots that claim batches and have them executed, the heartbeat, what its slots share.

Not here: what becomes of the documents (`executing`), and starting processes (`whimbrel.workers`).
Imports `kinds`, `executing`, `operating`.
"""
