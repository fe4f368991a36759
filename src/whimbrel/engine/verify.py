"""Executing a batch of a verification: every document of its range is looked at, and some are transformed again."""

from whimbrel.domain.migration import Definition
from whimbrel.engine.again import transform_again
from whimbrel.engine.examine import look_through, looking_at, settled_counts
from whimbrel.engine.examine_failures import look_at_failures
from whimbrel.engine.pace import Pace
from whimbrel.engine.patience import Patience
from whimbrel.engine.steps import Step
from whimbrel.engine.transform import Transform
from whimbrel.ports import Documents, Ledger


def verify(
    pace: Pace,
    documents: Documents,
    ledger: Ledger,
    definition: Definition,
    transform: Transform,
    *,
    step: Step,
) -> None:
    """Look, list what is wrong, settle. Worked through again after a crash, it begins anew: it has changed nothing.

    Raises what `execute` raises.
    """
    lease, patience = pace.lease, Patience(documents, pace)
    patience.until_done(documents.check_identity)
    at = patience.until_done(lambda: looking_at(patience, ledger, definition, transform, step))
    found = look_through(at)
    found.add(patience.until_done(lambda: look_at_failures(at)))
    found.add(transform_again(at))
    troubles = list(found.troubles.values())
    patience.until_done(lambda: ledger.failures.record(lease.run, lease.batch, troubles))
    step("S7")
    patience.until_done(lambda: ledger.batches.settle(lease.batch, settled_counts(found), tally=found.tally))
    step("S8")
