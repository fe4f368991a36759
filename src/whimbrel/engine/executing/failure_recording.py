"""S7: records failures of documents in the ledger before their batch settles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.marks import FAILED, stamp
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.outcome_tally import OutcomeTally
from whimbrel.engine.protocol_steps import Step
from whimbrel.ports import Documents, Ledger


def record_failures(ledger: Ledger, lease: Lease, failures: Sequence[FailedDocument]) -> None:
    """Records failures of a batch's documents. Raises LeaseLost.

    A failure row knows no fence, so the lease is renewed first: a process that slept through its lease must not write one.
    """
    lease.renew(ledger.batches)
    ledger.failures.record(lease.run, lease.batch, failures)


@dataclass(frozen=True, slots=True)
class FailureRecorder:
    """Records the failures of one claim of a batch."""

    documents: Documents
    ledger: Ledger
    lease: Lease
    selection: BatchSelection
    tally: OutcomeTally
    step: Step

    def fail(self, failures: Sequence[FailedDocument]) -> None:
        """Records them in the ledger, and in the documents' own field if possible. They are left out from now on."""
        if not failures:
            return
        run, batch = self.lease.run, self.lease.batch
        self.tally.fail(len(failures))
        record_failures(self.ledger, self.lease, failures)
        self.step("S7")
        fields = run.marking.failed(stamp(batch.token, FAILED))
        if fields:
            write = replace(self.selection.write(), eligible=run.marking.unmarked(batch.phase, retry=True))
            self.documents.mark_failed([failure.key for failure in failures], fields, write)
        self.selection.exclude(failure.key for failure in failures)
