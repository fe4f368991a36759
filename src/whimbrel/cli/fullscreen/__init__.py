"""Full-screen views: the terminal's modes, keys and signals, and frames of which only what changed is written.

Not here: what is shown (`top`).
Imports `output`.
"""
