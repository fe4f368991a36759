"""What is said of a migration that has nothing left to do: by which run it was done."""

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.ports import Ledger, Store

LOOKED_AT = 100  # runs of the migration, the newest
DONE = (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)


def nothing_left(store: Store, run: Run) -> str:
    """For a run that finds no document: a sentence that says why."""
    before = done_by(store.ledger, run)
    if before is None:
        return f"Nothing matches on {run.ns}: 0 left."
    return f"Migration {run.migration} is already done by {before.id}, 0 left."


def done_by(ledger: Ledger, run: Run) -> Run | None:
    """The newest run of this migration and version on this collection that changed anything, else the newest that completed."""
    found = [
        each
        for each in ledger.runs.list(
            statuses=DONE, migration=run.migration, kind="migration", limit=LOOKED_AT
        )
        if (each.ns, each.version) == (run.ns, run.version) and each.undone_by is None
    ]
    return next((each for each in found if each.counts.changed), found[0] if found else None)
