"""What is known of a run right now, from the ledger alone, without looking at the collection (promise 6)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from whimbrel.domain.bson.document_ids import id_json, relaxed
from whimbrel.domain.runs.batches import BatchSums
from whimbrel.domain.runs.failure_budget import BrokenRule
from whimbrel.domain.runs.forecast import Forecast, ProgressSample, forecast
from whimbrel.domain.runs.preflight_findings import finding_object
from whimbrel.domain.runs.requests import Request
from whimbrel.domain.runs.run import Counts, Run, work_of
from whimbrel.domain.runs.sizing import sizing_sentence
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.domain.runs.verification import Proof
from whimbrel.domain.runs.workers import ALIVE, Worker
from whimbrel.engine.operating.following_runs import following_object, following_sentence, note_for_others
from whimbrel.engine.operating.phase_view import phase_objects
from whimbrel.engine.operating.stage_view import stages_object
from whimbrel.engine.operating.stages import is_held
from whimbrel.engine.operating.unserved_runs import why_unserved
from whimbrel.ports import Ledger

QUIET = 3.0  # seconds without a sign of a coordinator
FOLDED = (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)  # everything is folded
CANCELLED = (RunStatus.CANCELLING, RunStatus.CANCELLED)  # states in which batches are cancelled
SERVED = (RunStatus.QUEUED, RunStatus.RUNNING)  # states in which workers should be there
STOPPING = {RunStatus.PAUSING: "pause", RunStatus.CANCELLING: "cancel"}  # and the command that does it
UNKNOWN = Forecast(0.0, None)
OTHER = (
    "run"  # the reason of a run that does not go on for what its message says, such as that it has no workers
)


@dataclass(frozen=True, slots=True)
class RunView:
    """A run, and the sums that its row alone does not have."""

    run: Run
    counts: Counts
    failures: Mapping[str, int]
    total_batches: int
    completed_batches: int  # settled and not cancelled
    cancelled_batches: int
    failed_batches: int
    seconds: float
    next_retry: float | None = None  # seconds until the next retry is due, while only retries are left
    speed: Forecast = UNKNOWN
    now: datetime | None = None  # when that was so, by the server's clock as far as it is known

    @property
    def processed(self) -> int:
        """Documents evaluated, each once: a document that failed and succeeded later is a success."""
        return self.counts.total + self.failures["failed"] + self.failures["conflict"]

    @property
    def total(self) -> int:
        """The estimate until it is exceeded; at the end of a run what was evaluated."""
        completed = self.run.status in (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)
        return self.processed if completed else max(self.run.estimated, self.processed)

    @property
    def settled_batches(self) -> int:
        return self.completed_batches + self.cancelled_batches

    @property
    def retrying(self) -> int:
        """Failures that will be tried again, while nothing else is left to do."""
        return self.failures["open"] if self.next_retry is not None else 0

    @property
    def throughput(self) -> float:
        """Recent documents a second."""
        return round(self.speed.rate, 1)

    @property
    def progress(self) -> float:
        """Percent of documents processed; 100 only at the end."""
        if self.run.status in (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES):
            return 100.0
        return min(99.9, round(100 * self.processed / self.total, 1)) if self.total else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until every document was evaluated, without the retries after that. None where it is not known, or has no end."""
        eta = None if self.run.phase == "follow" else self.speed.eta
        return None if eta is None or self.next_retry is not None else round(eta, 1)

    @property
    def following(self) -> str:
        """How far it has followed its collection's changes, in a few words; empty where it does not."""
        return following_sentence(self.run, self.counts, self.now or self.run.updated_at)

    @property
    def only_retries(self) -> bool:
        """Whether all documents were evaluated, and only failed ones are tried again."""
        retry_phase = self.run.status is RunStatus.RUNNING and self.run.phase == "failed"
        return retry_phase and (not self.run.takes_failed or self.processed >= self.total)


def view(ledger: Ledger, run: Run, *, now: datetime | None = None) -> RunView:
    """Returns a run with the sums over what was folded into it and the batches since."""
    return views(ledger, [run], now=now)[0]


def views(ledger: Ledger, runs: Iterable[Run], *, now: datetime | None = None) -> list[RunView]:
    """Does the same for several runs, with a fixed number of queries, plus one for each run that only retries."""
    listed = list(runs)
    after = ledger.batches.after_each(
        {run.id: run.folded_through for run in listed if run.status not in FOLDED}
    )
    times = [sums.now for sums in after.values() if sums.now is not None]
    moment = now or max(times, default=None) or datetime.now(UTC)
    explained = _with_reasons(ledger, listed, moment)
    failures = ledger.failures.numbers_each([run.id for run in explained])
    cancelled = ledger.batches.cancelled([run.id for run in explained if run.status in CANCELLED])
    run_views = []
    for run in explained:
        since, cancelled_count = after.get(run.id, BatchSums()), cancelled.get(run.id, 0)
        counts, failing = failures[run.id]
        stretch = (moment - run.working_since).total_seconds() if run.working_since else 0.0
        run_view = RunView(
            run=run, counts=run.counts + since.counts + since.begun, failures=counts, total_batches=max(since.last, run.folded_through),
            # Never fewer than none: batches may have been cancelled between the two reads.
            completed_batches=max(0, run.folded_through + since.settled - cancelled_count), cancelled_batches=cancelled_count, failed_batches=failing,
            seconds=run.worked + max(0.0, stretch), now=moment,
        )  # fmt: skip
        run_views.append(_with_forecast(ledger, run_view, since.in_hand))
    return run_views


def _with_forecast(ledger: Ledger, run_view: RunView, in_hand: int) -> RunView:
    """Adds what is known of the run's speed, and of what is still to come."""
    run = run_view.run
    if run_view.only_retries and run_view.failures["open"]:
        return replace(run_view, next_retry=ledger.failures.next_due(run.id))
    if run.status is not RunStatus.RUNNING or is_held(run, run.allowance):
        return run_view  # nothing is said about the end of a run that waits
    speed = forecast(
        run.samples, ProgressSample(run_view.seconds, run_view.processed, run_view.total), in_hand
    )
    return replace(run_view, speed=speed)


def _with_reasons(ledger: Ledger, runs: Sequence[Run], moment: datetime) -> list[Run]:
    """Gives runs that nobody works on the reason as their message, also where no coordinator is there to write it."""
    holders = ledger.runs.holders(run.ns for run in runs if run.status is RunStatus.QUEUED)
    known = {run.id: run for run in runs}
    busy = {ns: known.get(holder) or ledger.runs.get(holder) for ns, holder in holders.items()}
    explained = [_waiting(run, busy.get(run.ns)) for run in runs]
    quiet = [
        (run.status in STOPPING or (run.status in SERVED and run is original))
        and (moment - run.updated_at).total_seconds() > QUIET
        for run, original in zip(explained, runs, strict=True)
    ]
    if not any(quiet):
        return explained
    alive = ledger.leases.workers(ALIVE)
    return [
        replace(run, message=_reason_for_silence(alive, run) or run.message) if is_quiet else run
        for run, is_quiet in zip(explained, quiet, strict=True)
    ]


def _reason_for_silence(alive: Sequence[Worker], run: Run) -> str:
    if run.status not in STOPPING:
        return why_unserved(alive, run)
    if alive:
        return ""
    return f"No worker process is alive. Where it does not end by itself: whimbrel {STOPPING[run.status]} {run.id}"


def _waiting(run: Run, holder: Run | None) -> Run:
    if run.status is not RunStatus.QUEUED or holder is None or holder.id == run.id:
        return run
    why = f"Waits for run {holder.id}, which works on {run.ns}.{note_for_others(holder)}"
    return replace(run, message=why)


def run_object(run_view: RunView) -> dict[str, Any]:
    """Returns the Run object of the REST API and of `--json`."""
    run = run_view.run
    return {
        **row_object(run_view),
        "update": relaxed(run.declared),
        "report": [proof_object(proof) for proof in run.report],
        "warnings": [finding_object(finding) for finding in run.warnings],
        "phases": phase_objects(
            run,
            run_view.counts,
            run_view.total_batches,
            run_view.settled_batches,
        ),
    }


def row_object(run_view: RunView) -> dict[str, Any]:
    """Returns the run as a row of a list: without its long fields."""
    run = run_view.run
    throughput = (
        run_view.processed / run_view.seconds
        if run_view.seconds and run.status in ENDED
        else run_view.throughput
    )
    ended = iso_time(run.ended_at)
    span = run.ended_at - run.started_at if run.ended_at and run.started_at else None
    return {
        "migrationId": run.id, "migration": run.migration, "status": str(run.status),
        "phase": work_of(run) if run.status in ENDED else run.phase,
        "totalItems": run_view.total, "processedItems": run_view.processed, "succeeded": run_view.counts.changed + run_view.counts.unchanged,
        "changed": run_view.counts.changed, "unchanged": run_view.counts.unchanged, "failed": run_view.failures["failed"],
        "skipped": run_view.counts.skipped, "conflicts": run_view.failures["conflict"], "progress": run_view.progress,
        "totalBatches": run_view.total_batches, "completedBatches": run_view.completed_batches, "cancelledBatches": run_view.cancelled_batches,
        "failedBatches": run_view.failed_batches,
        "throughput": round(throughput, 1), "etaSeconds": run_view.eta, "retrying": run_view.retrying,
        "nextRetrySeconds": None if run_view.next_retry is None else max(0.0, round(run_view.next_retry, 1)),
        "seconds": round(run_view.seconds, 3), "inferred": run.inferred,
        "batchSize": run.batch_size, "sizing": sizing_object(run), "priority": run.priority, "maxDocsPerSecond": run.rate,
        "filters": None if run.abridged else relaxed(run.selecting), "request": request_object(run), "dryRun": False,
        "collection": run.ns, "kind": run.kind, "of": run.of, "undo": run.undo, "undoneBy": run.undone_by,
        "message": run.message, "error": run.error, "startTime": iso_time(run.started_at), "endTime": ended,
        "completedAt": ended, "duration": None if span is None else int(span.total_seconds() * 1000),
        "createdAt": iso_time(run.created_at), "updatedAt": iso_time(run.updated_at),
        "windows": list(run.windows), "nice": run.nice, **held_object(run),
        "maxFailures": run.budget.failures, "maxFailureRate": run.budget.rate, "maxNewCause": run.budget.new_cause,
        "overBudget": [broken_object(rule) for rule in run.over_budget],
        "follow": _following(run_view),
        "stages": stages_object(run, iso_time),
    }  # fmt: skip


def _following(run_view: RunView) -> dict[str, Any] | None:
    told = following_object(run_view.run, run_view.counts, run_view.now or run_view.run.updated_at)
    return None if told is None else {**told, "since": iso_time(told["since"])}


def sizing_object(run: Run) -> dict[str, Any]:
    """Returns how large batches and statements are, and why."""
    sizing = run.sizing
    return {
        "measured": sizing.measured, "docsPerSecondOfASlot": None if sizing.rate is None else round(sizing.rate, 1), "statementSize": sizing.chunk,
        "limitedBy": sizing.limit or None, "why": sizing_sentence(run.batch_size, sizing) or None,
    }  # fmt: skip


def held_object(run: Run) -> dict[str, Any]:
    """Returns whether a run works at its full speed, and what holds it back; nothing of a run that is not at work."""
    if run.status is not RunStatus.RUNNING:
        return {"state": None, "share": None, "reasons": []}
    allowance = run.allowance
    reasons = [
        {
            "signal": hold.signal, "level": str(hold.level), "share": round(hold.share, 4), "since": iso_seconds(hold.since),
            "until": iso_seconds(hold.until), "value": hold.value, "threshold": hold.threshold, "host": hold.host or None,
            "said": hold.sentence,
        }
        for hold in allowance.holds
    ]  # fmt: skip
    if not run.said_otherwise:
        return {"state": allowance.state, "share": round(allowance.share, 4), "reasons": reasons}
    other = {
        "signal": OTHER, "level": "stop", "share": 0.0, "since": None, "until": None, "value": None, "threshold": None,
        "host": None, "said": run.message,
    }  # fmt: skip
    return {"state": "waiting", "share": 0.0, "reasons": [other, *reasons]}


def iso_seconds(seconds: float | None) -> str | None:
    """Returns seconds since the epoch as a time; None where there are none."""
    return None if seconds is None else iso_time(datetime.fromtimestamp(seconds, UTC))


def request_object(run: Run) -> dict[str, Any]:
    """Returns what was asked for. For runs of earlier versions, as much as their rows tell."""
    request = run.request or Request(limit=run.scope.limit if run.scope.kind == "first" else None)
    return {
        "route": request.route or None, "phase": work_of(run), "filters": None if request.query is None else relaxed(request.query),
        "limit": request.limit, "ids": [id_json(key) for key in request.ids], "idCount": request.named, "abridged": request.abridged,
        "options": None if run.options is None else dict(run.options),
    }  # fmt: skip


def broken_object(broken: BrokenRule) -> dict[str, Any]:
    """Returns a passed limit of a failure budget."""
    return {
        "rule": broken.rule, "value": broken.value, "limit": broken.limit, "failures": broken.failures, "documents": broken.documents,
        "causes": [{"group": group, "failures": number} for group, number in broken.causes],
    }  # fmt: skip


def proof_object(proof: Proof) -> dict[str, Any]:
    return {
        "check": proof.check,
        "proved": proof.proved,
        "verdict": proof.verdict,
        "said": proof.sentence,
        "numbers": dict(proof.numbers),
    }


def iso_time(moment: datetime | None) -> str | None:
    return (
        moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None
    )
