"""S7: failures of documents, recorded in the ledger before their batch settles."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from whimbrel.domain.failures.failure import FailedDocument
from whimbrel.domain.migrations.marks import FAILED, stamp
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.outcome_tally import OutcomeTally
from whimbrel.engine.protocol_steps import Step
from whimbrel.ports import Documents, Ledger


def record_failures(ledger: Ledger, lease: Lease, troubles: Sequence[FailedDocument]) -> None:
    """Record failures of a batch's documents. Raises LeaseLost.

    A row knows no fence, so the lease is renewed first: whoever has slept through it must not write one.
    """
    lease.renew(ledger.batches)
    ledger.failures.record(lease.run, lease.batch, troubles)


@dataclass(frozen=True, slots=True)
class FailureRecorder:
    """Records the failures that one claim of a batch meets."""

    documents: Documents
    ledger: Ledger
    lease: Lease
    selection: BatchSelection
    tally: OutcomeTally
    step: Step

    def fail(self, troubles: Sequence[FailedDocument]) -> None:
        """In the ledger; the document's own field only as far as it goes. They are left out from now on."""
        if not troubles:
            return
        run, batch = self.lease.run, self.lease.batch
        self.tally.fail(len(troubles))
        record_failures(self.ledger, self.lease, troubles)
        self.step("S7")
        fields = run.marking.failed(stamp(batch.token, FAILED))
        if fields:
            anyhow = replace(self.selection.write(), eligible=run.marking.unmarked(batch.phase, retry=True))
            self.documents.mark_failed([each.key for each in troubles], fields, anyhow)
        self.selection.exclude(each.key for each in troubles)
