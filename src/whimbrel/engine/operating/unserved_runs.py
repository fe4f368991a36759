"""Whether anybody takes batches of a run, and why nobody does."""

import time
from collections.abc import Iterator, Sequence

import structlog

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.workers import ALIVE, NOT_LOADED, Worker
from whimbrel.ports import Ledger

log = structlog.get_logger("whimbrel.coordinator")

PATIENCE = 2.5  # seconds without anybody until it is said: processes start, and are started again
LOADING = "Waits: worker processes still load the migrations"
NAMED = 3  # hosts, with their reasons


class UnservedRuns:
    """What a coordinator remembers of the runs that nobody serves: since when, and what was said."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._since: dict[str, float] = {}
        self._said: dict[str, str] = {}

    def keep(self, runs: set[str]) -> None:
        """Forget all others."""
        self._since = {run: since for run, since in self._since.items() if run in runs}
        self._said = {run: said for run, said in self._said.items() if run in runs}

    def trouble(self, run: Run) -> str:
        """Why nobody serves a run, once nobody has for a while; else nothing. A new reason is logged."""
        why = unserved(self._ledger, run)
        if not why:
            self._since.pop(run.id, None)
            self._said.pop(run.id, None)
            return ""
        since = self._since.setdefault(run.id, time.monotonic())
        if time.monotonic() - since < PATIENCE:
            return self._said.get(run.id, "")
        if self._said.get(run.id) != why:
            self._said[run.id] = why
            if why.startswith(LOADING):  # as at the start of each run on a busy machine
                log.info("workers still load the migrations", run=run.id, reason=why)
            else:
                log.warning("nobody serves a run", run=run.id, reason=why)
        return why


def unserved(ledger: Ledger, run: Run) -> str:
    """Why no live worker takes batches of a run; nothing where one does."""
    return "" if ledger.leases.slots(ALIVE, run=run) else why_unserved(ledger.leases.workers(ALIVE), run)


def serves(worker: Worker, run: Run) -> bool:
    """Whether a worker takes batches of a run."""
    refused = any((each.run, each.pinned) == (run.id, run.code_hash) for each in worker.refuses)
    code = not run.has_user_code or (worker.code.get(run.migration) == run.code_hash and not refused)
    return bool(worker.slots) and worker.only in (None, run.id) and code


def why_unserved(alive: Sequence[Worker], run: Run) -> str:
    """The same for those that are known to be alive already."""
    if any(serves(each, run) for each in alive):
        return ""
    loading = [each for each in alive if each.loading and each.only in (None, run.id)]
    if loading:
        since = min(each.started_at for each in loading)
        return f"{LOADING}, since {since:%H:%M:%S} UTC."
    if not alive:
        return f"No worker serves it: whimbrel resume {run.id}, or start some for all runs: whimbrel worker (no worker process is alive)"
    reasons = list(dict.fromkeys(refusals(alive, run)))
    more = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return f"No worker serves it: {'; '.join(reasons[:NAMED])}{more}. Start workers that can, or pause it and resume it with the code that is there: whimbrel pause {run.id}"


def refusals(workers: Sequence[Worker], run: Run) -> Iterator[str]:
    """For each worker, its host and why it takes no batches of a run."""
    for each in workers:
        here = next((it.here for it in each.refuses if (it.run, it.pinned) == (run.id, run.code_hash)), "")
        if each.only not in (None, run.id):
            yield f"a worker on {each.host} works on run {each.only} alone"
        elif here == NOT_LOADED or (not here and run.has_user_code and run.migration not in each.code):
            yield f"the workers on {each.host} have not loaded {run.migration}"
        elif run.has_user_code and (here or each.code.get(run.migration, "") != run.code_hash):
            yield f"on {each.host} {run.migration} is not what the run began with: {(here or 'its code differs').rstrip('.')}"
        else:
            yield f"the workers on {each.host} have no slots left"
