"""Tests of what a worker does to the documents of a claimed batch."""
