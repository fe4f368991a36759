"""The kinds of runs (migration, rollback, cleanup, verification): how each plans, executes and ends; one object a kind.

Not here: what is the same for every kind; that is in the rooms below and above.
Imports `executing`, `planning`, `verifying`, `operating`.
"""
