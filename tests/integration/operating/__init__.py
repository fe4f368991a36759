"""Tests of what a person asks for: starting runs, preflight, schedules, numbers of runs."""
