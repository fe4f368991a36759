"""Verification of a run that has ended: a batch that examines every document of its range, and the report at the end.

Not here: asking for a verification (`operating.start_verification`).
Imports `executing`, `planning`, `operating`.
"""
