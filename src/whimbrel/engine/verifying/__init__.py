"""Verification of a run that has ended: examines every document batch by batch, and reports at the end.

Not here: requesting a verification (`operating.start_verification`).
Imports `executing`, `planning`, `operating`.
"""
