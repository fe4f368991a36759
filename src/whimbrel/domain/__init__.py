"""What Whimbrel knows: plain values and functions. No input or output, clock, log or async in here.

`bson` and `text` are at the bottom, `failures` and `migrations` above them, `runs` on top.
"""
