"""What a worker does to the documents of a batch that it has claimed, chunk by chunk, to the write that settles it.

Not here: claiming, and the threads and processes in which this happens (`running`).
Imports no other room of the engine.
"""
