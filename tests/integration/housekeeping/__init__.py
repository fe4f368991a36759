"""Tests of removal of old runs."""
