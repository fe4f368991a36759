"""What is known of a run right now, from the ledger alone: no look at the collection (promise 6)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from whimbrel.domain.findings import finding_object
from whimbrel.domain.ids import relaxed
from whimbrel.domain.runs import Counts, Run
from whimbrel.domain.states import ENDED, RunStatus
from whimbrel.domain.verification import Proof
from whimbrel.engine.serving import unserved
from whimbrel.ports import Ledger

MOVING = 10.0  # seconds over which throughput is taken
QUIET = 3.0  # seconds without a word of a coordinator
SERVED = (RunStatus.QUEUED, RunStatus.RUNNING)  # states in which workers should be there


@dataclass(frozen=True, slots=True)
class RunView:
    """A run and the sums that its row alone does not have."""

    run: Run
    counts: Counts
    failures: Mapping[str, int]
    total_batches: int
    completed_batches: int
    failed_batches: int
    throughput: float
    seconds: float

    @property
    def processed(self) -> int:
        """Documents evaluated, each once: a document that failed and succeeded later is a success."""
        return self.counts.total + self.failures["failed"] + self.failures["conflict"]

    @property
    def total(self) -> int:
        """The estimate until it is overtaken; at the end of a run what was evaluated."""
        over = self.run.status in (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)
        return self.processed if over else max(self.run.estimated, self.processed)

    @property
    def progress(self) -> float:
        """Percent of documents processed; 100 only at the end."""
        if self.run.status in (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES):
            return 100.0
        return min(99.9, round(100 * self.processed / self.total, 1)) if self.total else 0.0

    @property
    def eta(self) -> float | None:
        left = self.total - self.processed
        return round(left / self.throughput, 1) if self.throughput and self.run.status not in ENDED else None


def view(ledger: Ledger, run: Run, *, now: datetime | None = None) -> RunView:
    """Sums over what was folded into the run and the batches settled since."""
    if run.status is RunStatus.QUEUED and (holder := ledger.runs.holder(run.ns)) not in (None, run.id):
        run = replace(run, message=f"Waits for run {holder}, which works on {run.ns}.")
    moment = now or datetime.now(UTC)
    if run.status in SERVED and not run.message and (moment - run.updated_at).total_seconds() > QUIET:
        run = replace(run, message=unserved(ledger, run))  # there may be no coordinator either
    since, settled, last = ledger.batches.after(run.id, run.folded_through)
    failures, failed_batches = ledger.failures.numbers(run.id)
    documents, span = ledger.batches.recent(run.id, MOVING) if run.status is RunStatus.RUNNING else (0, 1.0)
    stretch = (moment - run.working_since).total_seconds() if run.working_since else 0.0
    return RunView(
        run=run, counts=run.counts + since, failures=failures, total_batches=max(last, run.folded_through),
        completed_batches=run.folded_through + settled, failed_batches=failed_batches, throughput=round(documents / span, 1),
        seconds=run.worked + max(0.0, stretch),
    )  # fmt: skip


def run_object(it: RunView) -> dict[str, Any]:
    """The Run object of the REST API and of `--json`."""
    run = it.run
    whole = it.counts.total / it.seconds if it.seconds and run.status in ENDED else it.throughput
    return {
        "migrationId": run.id, "migration": run.migration, "status": str(run.status), "phase": run.phase,
        "totalItems": it.total, "processedItems": it.processed, "succeeded": it.counts.changed + it.counts.unchanged,
        "changed": it.counts.changed, "unchanged": it.counts.unchanged, "failed": it.failures["failed"],
        "skipped": it.counts.skipped, "conflicts": it.failures["conflict"], "progress": it.progress,
        "totalBatches": it.total_batches, "completedBatches": it.completed_batches, "failedBatches": it.failed_batches,
        "throughput": round(whole, 1), "etaSeconds": it.eta, "seconds": round(it.seconds, 3), "inferred": run.inferred,
        "batchSize": run.batch_size, "priority": run.priority, "maxDocsPerSecond": run.rate, "filters": relaxed(run.query), "update": relaxed(run.declared), "dryRun": False,
        "collection": run.ns, "kind": run.kind, "of": run.of, "undo": run.undo, "undoneBy": run.undone_by, "report": [proof_object(each) for each in run.report], "message": run.message, "error": run.error,
        "warnings": [finding_object(each) for each in run.warnings],
        "startTime": iso_time(run.started_at), "endTime": iso_time(run.ended_at),
        "createdAt": iso_time(run.created_at), "updatedAt": iso_time(run.updated_at),
    }  # fmt: skip


def proof_object(it: Proof) -> dict[str, Any]:
    return {
        "check": it.check,
        "proved": it.proved,
        "verdict": it.verdict,
        "said": it.said,
        "numbers": dict(it.numbers),
    }


def iso_time(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None
