"""`whimbrel top`: what is looked at, the screens, the keys, and what is asked of runs from there.

Not here: the terminal (`fullscreen`); how rows of runs are drawn (`output.run_rows`).
Imports `fullscreen`, `foreground`, `arguments`, `output`.
"""
