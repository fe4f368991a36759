"""Tests of examples of the documentation, run as they stand there."""
