"""What commands write: the screen, tables, progress, the dry run, findings; nothing cut at any width.

Not here: where the facts come from.
Imports no other room of the command line.
"""
