"""Samples how far each run is, second by second: its speed and its end are estimated from that (`domain/runs/forecast.py`)."""

import time
from collections.abc import Collection

from whimbrel.domain.runs.forecast import EVERY, samples_to_keep
from whimbrel.domain.runs.run import Run
from whimbrel.engine.operating.run_view import view
from whimbrel.ports import Ledger


class ProgressSampling:
    """Remembers when a coordinator last looked at each run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looked_at: dict[str, float] = {}

    def keep(self, runs: Collection[str]) -> None:
        """Forgets all other runs."""
        self._looked_at = {run: moment for run, moment in self._looked_at.items() if run in runs}

    def sample(self, run: Run) -> None:
        """Stores how far the run is, once a second."""
        now = time.monotonic()
        if now - self._looked_at.get(run.id, -EVERY) < EVERY:
            return
        self._looked_at[run.id] = now
        progress = view(self._ledger, run)
        self._ledger.runs.sample(
            run.id, samples_to_keep(run.samples), done=progress.processed, total=progress.total
        )
