"""Tests of processes that hold user code."""
