"""Tests of runs that undo other runs."""
