"""Finds out whether anybody takes batches of a run, and why nobody does."""

import time
from collections.abc import Iterator, Sequence

import structlog

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.workers import ALIVE, NOT_LOADED, Worker
from whimbrel.ports import Ledger

log = structlog.get_logger("whimbrel.coordinator")

PATIENCE = 2.5  # seconds without a worker before it is reported: processes start, and are restarted
LOADING = "Waits: worker processes still load the migrations"
NAMED = 3  # reasons that are named


class UnservedRuns:
    """Remembers since when nobody serves a run, and what was reported."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._since: dict[str, float] = {}
        self._reported: dict[str, str] = {}

    def keep(self, runs: set[str]) -> None:
        """Forgets all other runs."""
        self._since = {run: since for run, since in self._since.items() if run in runs}
        self._reported = {run: reported for run, reported in self._reported.items() if run in runs}

    def reason(self, run: Run) -> str:
        """Returns why nobody serves a run, once nobody has for a while; else an empty string. Logs a new reason."""
        why = unserved(self._ledger, run)
        if not why:
            self._since.pop(run.id, None)
            self._reported.pop(run.id, None)
            return ""
        since = self._since.setdefault(run.id, time.monotonic())
        if time.monotonic() - since < PATIENCE:
            return self._reported.get(run.id, "")
        if self._reported.get(run.id) != why:
            self._reported[run.id] = why
            if why.startswith(LOADING):  # this happens at the start of each run on a busy machine
                log.info("workers still load the migrations", run=run.id, reason=why)
            else:
                log.warning("nobody serves a run", run=run.id, reason=why)
        return why


def unserved(ledger: Ledger, run: Run) -> str:
    """Returns why no live worker takes batches of a run; an empty string where one does."""
    return "" if ledger.leases.slots(ALIVE, run=run) else why_unserved(ledger.leases.workers(ALIVE), run)


def serves(worker: Worker, run: Run) -> bool:
    """Whether a worker takes batches of a run."""
    refused = any((refusal.run, refusal.pinned) == (run.id, run.code_hash) for refusal in worker.refuses)
    has_code = not run.has_user_code or (worker.code.get(run.migration) == run.code_hash and not refused)
    return bool(worker.slots) and worker.only in (None, run.id) and has_code


def why_unserved(alive: Sequence[Worker], run: Run) -> str:
    """Returns the same where the live workers are known already."""
    if any(serves(worker, run) for worker in alive):
        return ""
    loading = [worker for worker in alive if worker.loading and worker.only in (None, run.id)]
    if loading:
        since = min(worker.started_at for worker in loading)
        return f"{LOADING}, since {since:%H:%M:%S} UTC."
    if not alive:
        return f"No worker serves it: whimbrel resume {run.id}, or start some for all runs: whimbrel worker (no worker process is alive)"
    reasons = list(dict.fromkeys(refusals(alive, run)))
    others = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return f"No worker serves it: {'; '.join(reasons[:NAMED])}{others}. Start workers that can, or pause it and resume it with the code that is there: whimbrel pause {run.id}"


def refusals(workers: Sequence[Worker], run: Run) -> Iterator[str]:
    """Yields, for each worker, its host and why it takes no batches of a run."""
    for worker in workers:
        local_reason = next(
            (
                refusal.here
                for refusal in worker.refuses
                if (refusal.run, refusal.pinned) == (run.id, run.code_hash)
            ),
            "",
        )
        if worker.only not in (None, run.id):
            yield f"a worker on {worker.host} works on run {worker.only} alone"
        elif local_reason == NOT_LOADED or (
            not local_reason and run.has_user_code and run.migration not in worker.code
        ):
            yield f"the workers on {worker.host} have not loaded {run.migration}"
        elif run.has_user_code and (local_reason or worker.code.get(run.migration, "") != run.code_hash):
            yield f"on {worker.host} {run.migration} is not what the run began with: {(local_reason or 'its code differs').rstrip('.')}"
        else:
            yield f"the workers on {worker.host} have no slots left"
