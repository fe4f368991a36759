"""Sizes the batches that are planned next by what the last ones have taken their slots."""

import time
from collections.abc import Collection
from dataclasses import replace

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.sizing import MEASURED, Sizing, largest_batch, measure, next_batch_size
from whimbrel.ports import Ledger

LOOK_SECONDS = 1.0  # between two looks at a run's last batches
SAME_SECONDS = 10.0  # for which what is shown stays where nothing but its numbers changes


class BatchSizing:
    """Remembers when a coordinator last looked at each run, and when it last stored what it found."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looked_at: dict[str, float] = {}
        self._stored_at: dict[str, float] = {}

    def keep(self, runs: Collection[str]) -> None:
        """Forgets all other runs."""
        self._looked_at = {run: moment for run, moment in self._looked_at.items() if run in runs}
        self._stored_at = {run: moment for run, moment in self._stored_at.items() if run in runs}

    def resized(self, run: Run) -> Run:
        """Returns the run with the size that its next batches should have. A size that somebody sets meanwhile stays."""
        now = time.monotonic()
        if run.kind != "migration" or now - self._looked_at.get(run.id, -LOOK_SECONDS) < LOOK_SECONDS:
            return run
        self._looked_at[run.id] = now
        sizing = measure(run.sizing, self._ledger.batches.work(run.id, run.leg, MEASURED))
        size = next_batch_size(
            run.batch_size, sizing, largest=largest_batch(run.estimated), run_rate=run.rate
        )
        if size == run.batch_size and not self._is_news(run, sizing, now):
            return run
        if not self._ledger.runs.resize(run, size, sizing):
            return self._ledger.runs.get(run.id) or run
        self._stored_at[run.id] = now
        return replace(run, batch_size=size, sizing=sizing)

    def _is_news(self, run: Run, sizing: Sizing, now: float) -> bool:
        """Whether what is shown of the run changes: its numbers alone are written only now and then."""
        if (sizing.rate is None, sizing.limit) != (run.sizing.rate is None, run.sizing.limit):
            return True
        return sizing != run.sizing and now - self._stored_at.get(run.id, -SAME_SECONDS) >= SAME_SECONDS
