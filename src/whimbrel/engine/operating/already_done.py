"""Tells by which run a migration was done that has nothing left to do."""

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.ports import Ledger, Store

LOOKED_AT = 100  # newest runs of the migration
DONE = (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)


def nothing_left(store: Store, run: Run) -> str:
    """Returns the sentence that tells why a run finds no document."""
    before = done_by(store.ledger, run)
    if before is None:
        return f"Nothing matches on {run.ns}: 0 left."
    return f"Migration {run.migration} is already done by {before.id}, 0 left."


def done_by(ledger: Ledger, run: Run) -> Run | None:
    """Returns the newest run of this migration and version on this collection that changed anything, else the newest that completed."""
    completed = [
        candidate
        for candidate in ledger.runs.list(
            statuses=DONE, migration=run.migration, kind="migration", limit=LOOKED_AT
        )
        if (candidate.ns, candidate.version) == (run.ns, run.version) and candidate.undone_by is None
    ]
    return next(
        (candidate for candidate in completed if candidate.counts.changed),
        completed[0] if completed else None,
    )
