"""What commands take: options that they share, which run and which database is meant, times, completion.

Not here: what they write.
Imports `output`.
"""
