"""What a person or a program asks for: starting runs, pausing, cancelling, retrying, schedules, and what is known of runs.

Not here: carrying anything out. A start ends with a row in the ledger; workers and coordinators take it from there.
Imports no other package of the engine.
"""
