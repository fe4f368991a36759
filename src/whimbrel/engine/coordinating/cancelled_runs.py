"""Settling the batches that a cancelled run has left, a little in each tick."""

import time

from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.executing.settling import counts_from_documents
from whimbrel.errors import CollectionReplaced, Refused
from whimbrel.ports import Documents, Ledger

SECONDS = 0.2  # that it may take of a tick, but for the batch in hand
PAGE = 1000  # batches that are cancelled together
WHOLE = 10  # that are read with all their keys


def settle_cancelled(ledger: Ledger, documents: Documents, run: Run, *, untold: bool) -> None:
    """Cancel queued batches: those that nobody has claimed together, the others one by one, by evidence.

    `untold`: what they have done is not asked any more, but for what their rows tell. Raises what asking raises.
    """
    end = time.monotonic() + SECONDS
    while True:
        cancelled = ledger.batches.withdraw(run.id, PAGE)
        queued = ledger.batches.list(run.id, statuses=[BatchStatus.QUEUED], limit=WHOLE)
        for batch in (each for each in queued if each.claims):
            counts, inferred = _told(batch) if untold else _evidence(ledger, documents, run, batch)
            ledger.batches.cancel(batch, counts, inferred=inferred)
            if time.monotonic() > end:
                return
        if (cancelled < PAGE and len(queued) < WHOLE) or time.monotonic() > end:
            return


def _evidence(ledger: Ledger, documents: Documents, run: Run, batch: Batch) -> tuple[Counts, bool]:
    try:
        documents.check_identity()
        return counts_from_documents(documents, ledger, run, batch)
    # The filter cannot be evaluated, or the documents are gone: what else was changed stays unknown, and is flagged.
    except (Refused, CollectionReplaced):
        return _told(batch)


def _told(batch: Batch) -> tuple[Counts, bool]:
    """What its row tells of a batch."""
    return batch.progress.counts, True
