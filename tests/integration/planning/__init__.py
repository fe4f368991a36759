"""Tests of which documents become which batches."""
