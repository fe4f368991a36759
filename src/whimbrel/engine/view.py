"""What is known of a run right now, from the ledger alone: no look at the collection (promise 6)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from whimbrel.domain.batches import After
from whimbrel.domain.findings import finding_object
from whimbrel.domain.ids import id_json, relaxed
from whimbrel.domain.requests import Request
from whimbrel.domain.runs import Counts, Run, work_of
from whimbrel.domain.states import ENDED, RunStatus
from whimbrel.domain.verification import Proof
from whimbrel.domain.workers import ALIVE
from whimbrel.engine.serving import why_unserved
from whimbrel.ports import Ledger

MOVING = 10.0  # seconds over which throughput is taken
QUIET = 3.0  # seconds without a word of a coordinator
FOLDED = (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)  # nothing is left to be added up
CANCELLED = (RunStatus.CANCELLING, RunStatus.CANCELLED)  # states in which batches are cancelled
SERVED = (RunStatus.QUEUED, RunStatus.RUNNING)  # states in which workers should be there


@dataclass(frozen=True, slots=True)
class RunView:
    """A run and the sums that its row alone does not have."""

    run: Run
    counts: Counts
    failures: Mapping[str, int]
    total_batches: int
    completed_batches: int  # settled, and not cancelled
    cancelled_batches: int
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
    return views(ledger, [run], now=now)[0]


def views(ledger: Ledger, runs: Iterable[Run], *, now: datetime | None = None) -> list[RunView]:
    """The same of several runs: as many questions to the ledger, however many they are."""
    moment = now or datetime.now(UTC)
    told = _told(ledger, list(runs), moment)
    after = ledger.batches.after_each(
        {run.id: run.folded_through for run in told if run.status not in FOLDED}
    )
    failures = ledger.failures.numbers_each([run.id for run in told])
    cancelled = ledger.batches.cancelled([run.id for run in told if run.status in CANCELLED])
    recent = ledger.batches.recent_each([run.id for run in told if run.status is RunStatus.RUNNING], MOVING)
    found = []
    for run in told:
        since, gone = after.get(run.id, After()), cancelled.get(run.id, 0)
        counts, failing = failures[run.id]
        documents, span = recent.get(run.id, (0, 1.0))
        stretch = (moment - run.working_since).total_seconds() if run.working_since else 0.0
        found.append(RunView(
            run=run, counts=run.counts + since.counts, failures=counts, total_batches=max(since.last, run.folded_through),
            completed_batches=run.folded_through + since.settled - gone, cancelled_batches=gone, failed_batches=failing,
            throughput=round(documents / span, 1), seconds=run.worked + max(0.0, stretch),
        ))  # fmt: skip
    return found


def _told(ledger: Ledger, runs: Sequence[Run], moment: datetime) -> list[Run]:
    """The runs, those that nobody works on with the reason in their message."""
    holders = ledger.runs.holders(run.ns for run in runs if run.status is RunStatus.QUEUED)
    found = [_waiting(run, holders.get(run.ns)) for run in runs]
    quiet = [
        run.status in SERVED and not run.message and (moment - run.updated_at).total_seconds() > QUIET
        for run in found
    ]
    if not any(quiet):
        return found
    alive = ledger.leases.workers(ALIVE)  # there may be no coordinator either
    return [
        replace(run, message=why_unserved(alive, run)) if is_quiet else run
        for run, is_quiet in zip(found, quiet, strict=True)
    ]


def _waiting(run: Run, holder: str | None) -> Run:
    if run.status is not RunStatus.QUEUED or holder in (None, run.id):
        return run
    return replace(run, message=f"Waits for run {holder}, which works on {run.ns}.")


def run_object(it: RunView) -> dict[str, Any]:
    """The Run object of the REST API and of `--json`."""
    run = it.run
    return {
        **row_object(it),
        "update": relaxed(run.declared),
        "report": [proof_object(each) for each in run.report],
        "warnings": [finding_object(each) for each in run.warnings],
    }


def row_object(it: RunView) -> dict[str, Any]:
    """The same as a row of a list: without what is long."""
    run = it.run
    whole = it.counts.total / it.seconds if it.seconds and run.status in ENDED else it.throughput
    ended = iso_time(run.ended_at)
    span = run.ended_at - run.started_at if run.ended_at and run.started_at else None
    return {
        "migrationId": run.id, "migration": run.migration, "status": str(run.status),
        "phase": work_of(run) if run.status in ENDED else run.phase,
        "totalItems": it.total, "processedItems": it.processed, "succeeded": it.counts.changed + it.counts.unchanged,
        "changed": it.counts.changed, "unchanged": it.counts.unchanged, "failed": it.failures["failed"],
        "skipped": it.counts.skipped, "conflicts": it.failures["conflict"], "progress": it.progress,
        "totalBatches": it.total_batches, "completedBatches": it.completed_batches, "cancelledBatches": it.cancelled_batches,
        "failedBatches": it.failed_batches,
        "throughput": round(whole, 1), "etaSeconds": it.eta, "seconds": round(it.seconds, 3), "inferred": run.inferred,
        "batchSize": run.batch_size, "priority": run.priority, "maxDocsPerSecond": run.rate,
        "filters": None if run.abridged else relaxed(run.selecting), "request": request_object(run), "dryRun": False,
        "collection": run.ns, "kind": run.kind, "of": run.of, "undo": run.undo, "undoneBy": run.undone_by,
        "message": run.message, "error": run.error, "startTime": iso_time(run.started_at), "endTime": ended,
        "completedAt": ended, "duration": None if span is None else int(span.total_seconds() * 1000),
        "createdAt": iso_time(run.created_at), "updatedAt": iso_time(run.updated_at),
    }  # fmt: skip


def request_object(run: Run) -> dict[str, Any]:
    """What was asked for. Of runs of earlier versions as much as their rows tell."""
    it = run.request or Request(limit=run.scope.limit if run.scope.kind == "first" else None)
    return {
        "route": it.route or None, "phase": work_of(run), "filters": None if it.query is None else relaxed(it.query),
        "limit": it.limit, "ids": [id_json(key) for key in it.ids], "idCount": it.named, "abridged": it.abridged,
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
