"""What commands take: shared options, which run and which database is meant, times, completion.

Not here: what they write.
Imports `output`.
"""
