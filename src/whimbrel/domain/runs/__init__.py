"""A run: its row, states, batches and their progress, the tiling of its ranges, schedules, forecast, findings.

Not here: how anything is carried out.
Imports the other packages of the domain.
"""
