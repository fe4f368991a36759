"""What is known of a run right now, from the ledger alone: no look at the collection (promise 6)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from whimbrel.domain.findings import finding_object
from whimbrel.domain.forecast import Forecast, Sample, forecast
from whimbrel.domain.ids import relaxed
from whimbrel.domain.runs import Counts, Run
from whimbrel.domain.states import ENDED, RunStatus
from whimbrel.domain.verification import Proof
from whimbrel.domain.workers import ALIVE
from whimbrel.engine.serving import unserved
from whimbrel.ports import Ledger

QUIET = 3.0  # seconds without a word of a coordinator
SERVED = (RunStatus.QUEUED, RunStatus.RUNNING)  # states in which workers should be there
STOPPING = {RunStatus.PAUSING: "pause", RunStatus.CANCELLING: "cancel"}  # and the command that does it
UNKNOWN = Forecast(0.0, None)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run and the sums that its row alone does not have."""

    run: Run
    counts: Counts
    failures: Mapping[str, int]
    total_batches: int
    completed_batches: int
    failed_batches: int
    seconds: float
    next_retry: float | None = None  # seconds until one is due, while nothing else than retries is left
    speed: Forecast = UNKNOWN

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
    def retrying(self) -> int:
        """Failures that are tried again, while nothing else is left to do."""
        return self.failures["open"] if self.next_retry is not None else 0

    @property
    def throughput(self) -> float:
        """Documents a second, of late."""
        return round(self.speed.rate, 1)

    @property
    def progress(self) -> float:
        """Percent of documents processed; 100 only at the end."""
        if self.run.status in (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES):
            return 100.0
        return min(99.9, round(100 * self.processed / self.total, 1)) if self.total else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until every document was evaluated; what fails is tried again after that. None where it is not known."""
        found = self.speed.eta
        return None if found is None or self.next_retry is not None else round(found, 1)

    @property
    def only_retries(self) -> bool:
        """Whether all documents were evaluated, and those that failed are tried again."""
        phase = self.run.status is RunStatus.RUNNING and self.run.phase == "failed"
        return phase and (not self.run.takes_failed or self.processed >= self.total)


def view(ledger: Ledger, run: Run, *, now: datetime | None = None) -> RunView:
    """Sums over what was folded into the run and the batches since."""
    since = ledger.batches.after(run.id, run.folded_through)
    moment = now or since.now or datetime.now(UTC)
    failures, failed_batches = ledger.failures.numbers(run.id)
    stretch = (moment - run.working_since).total_seconds() if run.working_since else 0.0
    it = RunView(
        run=_told(ledger, run, moment), counts=run.counts + since.counts + since.begun, failures=failures,
        total_batches=max(since.last, run.folded_through), completed_batches=run.folded_through + since.settled,
        failed_batches=failed_batches, seconds=run.worked + max(0.0, stretch),
    )  # fmt: skip
    if it.only_retries and failures["open"]:
        return replace(it, next_retry=ledger.failures.next_due(run.id))
    if run.status is not RunStatus.RUNNING:
        return it
    return replace(it, speed=forecast(run.samples, Sample(it.seconds, it.processed, it.total)))


def _told(ledger: Ledger, run: Run, moment: datetime) -> Run:
    """With a message that says why it does not go on, also where no coordinator is there to say so."""
    if run.status is RunStatus.QUEUED and (holder := ledger.runs.holder(run.ns)) not in (None, run.id):
        return replace(run, message=f"Waits for run {holder}, which works on {run.ns}.")
    if (moment - run.updated_at).total_seconds() <= QUIET:
        return run
    if run.status in SERVED and (why := unserved(ledger, run)):
        return replace(run, message=why)
    if run.status in STOPPING and not ledger.leases.workers(ALIVE):
        how = STOPPING[run.status]
        return replace(
            run,
            message=f"No worker process is alive. Where it does not end by itself: whimbrel {how} {run.id}",
        )
    return run


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
        "throughput": round(whole, 1), "etaSeconds": it.eta, "retrying": it.retrying, "nextRetrySeconds": None if it.next_retry is None else max(0.0, round(it.next_retry, 1)), "seconds": round(it.seconds, 3), "inferred": run.inferred,
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
