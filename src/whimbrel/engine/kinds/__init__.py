"""The kinds of runs (migration, rollback, cleanup, verification): how each plans, executes and ends; one object for each kind.

Not here: what is the same for every kind; that is in the packages below and above.
Imports `executing`, `planning`, `verifying`, `operating`.
"""
