"""What a worker does to the documents of a claimed batch, chunk by chunk, up to the write that settles it.

Not here: claiming, and the threads and processes that do it (`running`).
Imports no other package of the engine.
"""
