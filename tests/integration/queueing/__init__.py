"""Tests of announcing batches through a broker."""
