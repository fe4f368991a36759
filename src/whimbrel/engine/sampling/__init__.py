"""Watching the database's health: one process in the cluster samples it, and stores the verdict that all slots obey.

Not here: how a slot obeys (`executing/gate`), and how signals are read (`mongo/health_reader`).
Imports no other package of the engine.
"""
