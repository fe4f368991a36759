"""Which documents become which batches: ranges of `_id`, keys that an index yields, ranges of an earlier phase.

Not here: when to plan, and how far ahead; the coordinator decides that.
Imports no other package of the engine.
"""
