"""Tests of slots, leases and what happens to a worker process."""
