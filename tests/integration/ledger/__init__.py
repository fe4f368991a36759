"""Tests of the ledger in MongoDB: claims, failures, indexes, its format."""
