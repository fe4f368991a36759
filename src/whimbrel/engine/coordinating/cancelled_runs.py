"""Settles the batches that a cancelled run has left, a few in each tick."""

import time

from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.executing.settling import counts_from_documents
from whimbrel.errors import CollectionReplaced, Refused
from whimbrel.ports import Documents, Ledger

SECONDS = 0.2  # of a tick, not counting the batch being settled
PAGE = 1000  # batches cancelled together
FULL_BATCHES = 10  # batches read with all their keys


def settle_cancelled(ledger: Ledger, documents: Documents, run: Run, *, untold: bool) -> None:
    """Cancels queued batches: those that nobody has claimed together, the others one by one, by evidence.

    `untold`: do not ask the documents what the batches have done, but take what their rows tell. Raises what asking raises.
    """
    end = time.monotonic() + SECONDS
    while True:
        cancelled = ledger.batches.withdraw(run.id, PAGE)
        queued = ledger.batches.list(run.id, statuses=[BatchStatus.QUEUED], limit=FULL_BATCHES)
        for batch in (batch for batch in queued if batch.claims):
            counts, inferred = (
                _noted_counts(batch) if untold else _counts_by_evidence(ledger, documents, run, batch)
            )
            ledger.batches.cancel(batch, counts, inferred=inferred)
            if time.monotonic() > end:
                return
        if (cancelled < PAGE and len(queued) < FULL_BATCHES) or time.monotonic() > end:
            return


def _counts_by_evidence(ledger: Ledger, documents: Documents, run: Run, batch: Batch) -> tuple[Counts, bool]:
    try:
        documents.check_identity()
        return counts_from_documents(documents, ledger, run, batch)
    # The filter cannot be evaluated, or the documents are gone: what else was changed stays unknown, and is flagged as such.
    except (Refused, CollectionReplaced):
        return _noted_counts(batch)


def _noted_counts(batch: Batch) -> tuple[Counts, bool]:
    """Returns what the batch's row tells, flagged as inferred."""
    return batch.progress.counts, True
