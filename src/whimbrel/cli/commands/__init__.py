"""The commands, one file for each.

Not here: what several commands need (`arguments`, `output`, `foreground`).
Imports all other rooms of the command line.
"""
