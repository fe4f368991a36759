"""Works on a run from a terminal: the display, Ctrl-C, and leaving it to others.

Not here: the commands that do so (`commands.run`).
Imports `output`, `arguments`.
"""
