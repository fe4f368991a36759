"""Samples how far each run is, second by second: its speed and its end are estimated from that (`domain/runs/forecast.py`)."""

import time
from collections.abc import Collection
from dataclasses import dataclass

from whimbrel.domain.runs.forecast import EVERY, samples_to_keep
from whimbrel.domain.runs.run import Run
from whimbrel.engine.operating.run_view import RunView, view
from whimbrel.ports import Ledger


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a run was. `at`: by the monotonic clock."""

    view: RunView
    at: float


class ProgressSampling:
    """Remembers when a coordinator last looked at each run."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._looked_at: dict[str, float] = {}
        self._last: dict[str, Progressed] = {}

    def keep(self, runs: Collection[str]) -> None:
        """Forgets all other runs."""
        self._looked_at = {run: moment for run, moment in self._looked_at.items() if run in runs}
        self._last = {run: progressed for run, progressed in self._last.items() if run in runs}

    def last(self, run_id: str) -> Progressed | None:
        """Returns how far a run was when it was sampled last; None: not yet."""
        return self._last.get(run_id)

    def sample(self, run: Run) -> None:
        """Stores how far the run is, once a second."""
        now = time.monotonic()
        if now - self._looked_at.get(run.id, -EVERY) < EVERY:
            return
        self._looked_at[run.id] = now
        progress = view(self._ledger, run)
        self._last[run.id] = Progressed(progress, time.monotonic())
        self._ledger.runs.sample(
            run.id, samples_to_keep(run.samples), done=progress.processed, total=progress.total
        )
