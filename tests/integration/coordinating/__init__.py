"""Tests of what the coordinator decides from the ledger."""
