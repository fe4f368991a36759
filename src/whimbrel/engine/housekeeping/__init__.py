"""What was left lying: stuck batches, orphans, documents in `processing`, and runs that ended long ago.

Not here: what happens by itself while a run goes on (`coordinating`).
Imports `coordinating`, `queueing`, `operating`.
"""
