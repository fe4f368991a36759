"""A migration: its definition, its filter and update, marks, before-images, and what a function may return.

Not here: a run of it.
Imports `bson`, `text`, `failures`.
"""
