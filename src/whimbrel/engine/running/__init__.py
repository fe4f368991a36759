"""What a worker process does: slots that claim batches and execute them, the heartbeat, the state that its slots share.

Not here: what becomes of the documents (`executing`), and starting processes (`whimbrel.workers`).
Imports `kinds`, `executing`, `operating`.
"""
