"""Which documents become which batches: ranges of `_id`, keys that an index yields, ranges of an earlier phase.

Not here: when to plan, and how far ahead; that is the coordinator's.
Imports no other room of the engine.
"""
