"""Tests of `whimbrel.testing`."""
