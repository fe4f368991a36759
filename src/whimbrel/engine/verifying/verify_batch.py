"""Executing a batch of a verification: every document of its range is looked at, and some are transformed again."""

from whimbrel.domain.migrations.migration import Definition
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.executing.retrying import Retrying
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.verifying.examine_documents import examination_of, examine_range, settled_counts
from whimbrel.engine.verifying.examine_failures import examine_failures
from whimbrel.engine.verifying.transform_again import transform_again
from whimbrel.ports import Documents, Ledger


def verify_batch(
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
    lease, retrying = pace.lease, Retrying(documents, pace)
    retrying.until_done(documents.check_identity)
    at = retrying.until_done(lambda: examination_of(retrying, ledger, definition, transform, step))
    found = examine_range(at)
    found.add(retrying.until_done(lambda: examine_failures(at)))
    found.add(transform_again(at))
    troubles = list(found.troubles.values())
    retrying.until_done(lambda: ledger.failures.record(lease.run, lease.batch, troubles))
    step("S7")
    retrying.until_done(lambda: ledger.batches.settle(lease.batch, settled_counts(found), tally=found.tally))
    step("S8")
