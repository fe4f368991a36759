"""BSON as bytes and values: raw documents and keys, Extended JSON, UUIDs, differences between documents.

Not here: what a migration or a run does with them.
Imports no other package of the domain but `text`.
"""
