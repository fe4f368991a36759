"""Executes a batch of a verification: examines every document of its range, and transforms some again."""

from whimbrel.domain.migrations.definition import Definition
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
    """Examines, lists what is wrong, settles. Repeated after a crash, it starts again: it has changed nothing.

    Raises what `execute` raises.
    """
    lease, retrying = pace.lease, Retrying(documents, pace)
    retrying.until_done(documents.check_identity)
    examination = retrying.until_done(lambda: examination_of(retrying, ledger, definition, transform, step))
    findings = examine_range(examination)
    findings.add(retrying.until_done(lambda: examine_failures(examination)))
    findings.add(transform_again(examination))
    failures = list(findings.failures.values())
    retrying.until_done(lambda: ledger.failures.record(lease.run, lease.batch, failures))
    step("S7")
    retrying.until_done(
        lambda: ledger.batches.settle(lease.batch, settled_counts(findings), tally=findings.tally)
    )
    step("S8")
