"""BSON as bytes and values: raw documents and keys, Extended JSON, UUIDs, differences of documents.

Not here: what a migration or a run makes of them.
Imports no other room of the domain but `text`.
"""
