"""How far each run was, second by second: what its speed and its end are worked out from (`domain/runs/forecast.py`)."""

import time
from collections.abc import Collection

from whimbrel.domain.runs.forecast import EVERY, kept
from whimbrel.domain.runs.run import Run
from whimbrel.engine.operating.run_view import view
from whimbrel.ports import Ledger


class ProgressSampling:
    """What a coordinator remembers: when it looked at each run last."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looked: dict[str, float] = {}

    def keep(self, runs: Collection[str]) -> None:
        """Forget all others."""
        self._looked = {run: at for run, at in self._looked.items() if run in runs}

    def look(self, run: Run) -> None:
        """Keep how far it is, once a second."""
        now = time.monotonic()
        if now - self._looked.get(run.id, -EVERY) < EVERY:
            return
        self._looked[run.id] = now
        it = view(self._ledger, run)
        self._ledger.runs.sample(run.id, kept(run.samples), done=it.processed, total=it.total)
