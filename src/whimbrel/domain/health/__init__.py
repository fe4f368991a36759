"""The database's health: its signals, when each of them is bad, and which share of its speed a run may have.

Not here: how signals are read, and how a slot obeys.
Imports no other package of the domain.
"""
