"""A run: its row, states, batches and how far they are, the tiling of its ranges, schedules, forecast, findings.

Not here: how anything is carried out.
Imports the other rooms of the domain.
"""
