"""What was left behind: stuck batches, orphans, documents in `processing`, and runs that ended long ago.

Not here: what happens by itself while a run is at work (`coordinating`).
Imports `coordinating`, `queueing`, `operating`.
"""
