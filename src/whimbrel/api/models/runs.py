"""Models of runs and batches in the API."""

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import Field

from whimbrel.api.models.envelope import Answer, Model
from whimbrel.api.models.terms import HeldBy
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.preflight_findings import Finding, finding_object
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.operating.run_view import RunView, iso_time, row_object, run_object

RUN = "20261124-k3f9x2"


class Warned(Model):
    """What preflight found before a run started; docs/preflight.md lists the checks."""

    check: str = Field(description="what was looked at", examples=["index"])
    level: str = Field(
        description="warning; unknown, where the check could not be done; error, of a dry run whose function changes `_id`; info, which asks nothing",
        examples=["warning"],
    )
    reason: str = Field(description="what was found", examples=["No index yields the eligible documents."])
    remedy: str = Field(description="what to do", examples=["Build one first."])
    detail: dict[str, Any] | None = Field(
        description="the same for machines; of the check `index`: `winningPlan` of MongoDB's explain, and `build`, the command that builds the index",
        examples=[{"winningPlan": {"stage": "COLLSCAN"}}],
    )


def warned_models(findings: Iterable[Finding]) -> list[Warned]:
    return [Warned(**finding_object(finding)) for finding in findings]


class GateFindingOf(Model):
    """What the gate of a stage found in one respect."""

    check: str = Field(description="failures, conflicts, canary or sample", examples=["failures"])
    passed: bool | None = Field(description="null: it could not be told", examples=[True])
    said: str = Field(description="the same for people", examples=["0 of 1,000 documents failed."])


class StageOf(Model):
    """One stage of a run. The numbers are those of all stages so far, when the gate was looked at."""

    stage: int = Field(description="its number, from 1", examples=[1])
    asked: str = Field(description="as it was asked for: documents, or a percentage", examples=["1%"])
    documents: int = Field(description="about how many documents the stages so far have", examples=[1000])
    state: str = Field(
        description="waiting, running, holding (until `heldUntil`), approval (a person must approve it), refused (by its gate; the run pauses), or passed",
        examples=["passed"],
    )
    evaluated: int = Field(description="documents evaluated", examples=[1000])
    failed: int = Field(description="documents with an unresolved failure", examples=[0])
    conflicts: int = Field(description="documents that the application kept changing", examples=[0])
    gate: list[GateFindingOf] = Field(description="what the gate found", examples=[[]])
    looked_at: str | None = Field(description="when the gate was looked at: RFC 3339", examples=[None])
    held_until: str | None = Field(description="RFC 3339", examples=[None])
    passed_at: str | None = Field(description="when the run was let go on: RFC 3339", examples=[None])
    approved_by: str | None = Field(description="who let it go on", examples=[None])


class StagesOf(Model):
    """The stages of a run."""

    current: int = Field(description="number of the stage that it is in, or was in at its end", examples=[1])
    hold: float = Field(description="seconds that each gate waits", examples=[600])
    approve: bool = Field(description="whether a person must approve each stage", examples=[False])
    stages: list[StageOf] = Field(description="each of them; the last one is everything, and has no gate")


class ProofOf(Model):
    """One sentence of a verification."""

    check: str = Field(description="what was looked at", examples=["ranges tile"])
    proved: bool | None = Field(
        description="true; false where a fault was found; null where nothing can prove it", examples=[True]
    )
    verdict: str = Field(
        description="proved, fault, changed since (by others, after the run) or not proved",
        examples=["proved"],
    )
    said: str = Field(
        description="the same for people",
        examples=["The batches' ranges tile the key space without gap or overlap."],
    )
    numbers: dict[str, int] = Field(description="what it rests on", examples=[{"looked": 1000}])


class OptionsOf(Model):
    """The options that a run was started with; those that nobody named are as the migration or the configuration has them."""

    batch_size: int | None = Field(
        description="documents in a batch; null: as it is measured", examples=[None]
    )
    max_docs_per_second: int | None = Field(description="null: as fast as it can", examples=[2000])
    priority: int = Field(description="0 to 10", examples=[0])
    windows: list[str] = Field(description="hours in which it works; empty: at any time", examples=[[]])
    nice: int = Field(description="0 to 100", examples=[0])
    max_failures: int | None = Field(description="null: any number", examples=[None])
    max_failure_rate: float | None = Field(description="null: any", examples=[0.05])
    max_new_cause: int | None = Field(description="null: any number", examples=[20])
    follow: bool = Field(description="whether it goes on with what changes after its sweep", examples=[False])
    undo: bool | Literal["document"] = Field(description="whether it keeps before-images", examples=[False])
    adopt: str = Field(
        description="which documents left in `processing` it takes: ours or all", examples=["ours"]
    )
    stages: list[str] = Field(description="its stages; empty: all at once", examples=[["1%"]])
    hold: float | None = Field(description="seconds that each gate waits; null: no stages", examples=[None])
    approve: bool = Field(description="whether a person must approve each stage", examples=[False])


class PhaseOf(Model):
    """A leg of a run: one phase, or one of the phases of a stage. Numbers are null where an earlier version has not kept them."""

    leg: int = Field(description="its number, from 0", examples=[0])
    phase: str = Field(description="pending, processing, failed, sweep or follow", examples=["pending"])
    stage: int | None = Field(description="the stage that it belongs to, from 1; null: none", examples=[None])
    state: Literal["waiting", "current", "done"] = Field(description="how far it is", examples=["current"])
    processed_items: int | None = Field(
        description="documents that it has settled: changed, unchanged and skipped. Failed ones belong to no phase: the next one tries them",
        examples=[498],
    )
    changed: int | None = Field(description="documents changed", examples=[498])
    unchanged: int | None = Field(description="documents that were right already", examples=[0])
    skipped: int | None = Field(description="documents that the function skipped", examples=[0])
    total_batches: int | None = Field(description="batches planned so far", examples=[4])
    completed_batches: int | None = Field(description="batches that are settled", examples=[2])


class RequestOf(Model):
    """What somebody asked for when the run was started."""

    route: str | None = Field(
        description="through which door: a route of this API, `whimbrel run`, `whimbrel demo`, or `schedule` and its name; null: not kept, as of rollbacks, cleanups and verifications, which `kind` and `of` tell",
        examples=["POST /migrate/retry-failed"],
    )
    phase: str = Field(description="pending, processing or failed, or all of them", examples=["failed"])
    filters: dict[str, Any] | None = Field(
        description="the query as it was given, as relaxed Extended JSON; null: none was", examples=[None]
    )
    limit: int | None = Field(description="only so many documents; null: all that match", examples=[None])
    ids: list[Any] = Field(
        description="up to ten of the `_id`s that were named, as relaxed Extended JSON", examples=[[]]
    )
    id_count: int | None = Field(description="how many were named; null: a run of no ids", examples=[None])
    abridged: bool = Field(description="whether `filters` is null because it is too long", examples=[False])
    options: OptionsOf | None = Field(
        description="the options that it was started with, whatever they are now; null: not kept, by an earlier version"
    )


class SizingOf(Model):
    """What the sizes of batches and statements follow, as measured over the last batches."""

    measured: bool = Field(
        description="whether batches get larger or smaller by what they take; false where somebody has set a size",
        examples=[True],
    )
    docs_per_second_of_a_slot: float | None = Field(
        description="documents a second of one slot, without rests and waits; null: too little was measured yet",
        examples=[640.0],
    )
    statement_size: int | None = Field(description="documents that a statement may have", examples=[320])
    limited_by: Literal["planned", "time", "bytes", "rate", "share"] | None = Field(
        description="what bounds the documents of a statement: 1,000 as planned, half a second, 8 MB, the run's rate, or its share of its speed",
        examples=["time"],
    )
    why: str | None = Field(
        description="the same as a sentence",
        examples=[
            "batches of 12,000: about 19 s of work each at 640 documents/s a slot; statements of up to 320 to take half a second"
        ],
    )


class FailuresOfCause(Model):
    """How many failures of a cause count for a failure budget."""

    group: str = Field(description="short name of the cause's group", examples=["2f1a9c3e"])
    failures: int = Field(description="documents", examples=[812])


class PassedLimit(Model):
    """A limit of the failure budget that the run has passed."""

    rule: Literal["failures", "rate", "newCause"] = Field(
        description="which limit: maxFailures, maxFailureRate or maxNewCause", examples=["rate"]
    )
    value: float = Field(description="how far it got: documents, or a share", examples=[0.073])
    limit: float = Field(description="what is allowed", examples=[0.05])
    failures: int = Field(description="failed documents that count", examples=[901])
    documents: int = Field(description="evaluated documents that they are among", examples=[12345])
    causes: list[FailuresOfCause] = Field(description="those with most of them")


class FollowOf(Model):
    """How far a run has followed the changes of its collection after its sweep."""

    wanted: bool = Field(description="false: it was told to end", examples=[True])
    since: str | None = Field(
        description="when it began to follow: RFC 3339; null: not yet", examples=["2026-11-24T14:02:00.000Z"]
    )
    behind_seconds: float | None = Field(
        description="for so long what was written is not planned yet; null while it does not follow",
        examples=[0.4],
    )
    documents: int = Field(description="documents evaluated since then", examples=[1204])
    lost: int = Field(
        description="how often MongoDB did not know any more what had changed, so that another sweep came",
        examples=[0],
    )


class RunRow(Model):
    """A run as lists show it: without its warnings, report, update and phases, which GET /migrate/status/{id} has."""

    migration_id: str = Field(description="id of the run", examples=[RUN])
    migration: str = Field(description="name of the migration", examples=["some-model"])
    status: str = Field(
        description="queued, running, pausing, paused, cancelling, cancelled, failed, completed, completed_with_failures",
        examples=["running"],
    )
    phase: str = Field(
        description="in which it is: pending, processing, failed, sweep or follow; of a run that has ended the one that it was about, or `all`",
        examples=["pending"],
    )
    total_items: int = Field(
        description="documents to evaluate: an estimate until planning has ended", examples=[1000]
    )
    processed_items: int = Field(description="documents evaluated, each once", examples=[500])
    succeeded: int = Field(description="changed and unchanged documents", examples=[498])
    changed: int = Field(description="documents changed", examples=[498])
    unchanged: int = Field(description="documents that were right already", examples=[0])
    failed: int = Field(description="documents with an unresolved failure", examples=[2])
    skipped: int = Field(description="documents that the function skipped", examples=[0])
    conflicts: int = Field(description="documents that the application kept changing", examples=[0])
    progress: float = Field(
        description="percent of documents evaluated, never of queued ones", examples=[50.0]
    )
    total_batches: int = Field(description="batches planned so far", examples=[4])
    completed_batches: int = Field(description="batches that are done", examples=[2])
    cancelled_batches: int = Field(
        description="batches that were cancelled with the run: nobody began them, or finished them",
        examples=[0],
    )
    failed_batches: int = Field(description="batches with unresolved failures", examples=[1])
    throughput: float = Field(
        description="documents a second, of the last half minute at most; of the whole run at its end",
        examples=[12000.0],
    )
    eta_seconds: float | None = Field(
        description="seconds until every document was evaluated, about; null where that cannot be known: at the start, while the "
        "speed changes, and while only failures are tried again",
        examples=[3.5],
    )
    retrying: int = Field(
        description="failures that are tried again, while nothing else is left to do", examples=[0]
    )
    next_retry_seconds: float | None = Field(
        description="seconds until the first of them is due; null where none is", examples=[None]
    )
    seconds: float = Field(description="seconds that it has worked", examples=[4.25])
    inferred: bool = Field(
        description="whether counts are differences that were seen in the documents: after a crash or another interruption",
        examples=[False],
    )
    batch_size: int = Field(description="documents in a batch that is planned from now on", examples=[5000])
    sizing: SizingOf = Field(description="why batches and statements have their sizes")
    max_docs_per_second: int | None = Field(description="at most so many documents a second", examples=[None])
    priority: int = Field(description="0 to 10; above 5 it goes before others", examples=[0])
    filters: dict[str, Any] | None = Field(
        description="the migration's query, that of the request and the status that was asked for, together, as relaxed Extended JSON; null in a list where it takes more than 2,000 bytes",
        examples=[{"status": "failed"}],
    )
    request: RequestOf = Field(description="what was asked for")
    dry_run: bool = Field(description="always false: a dry run makes no run", examples=[False])
    collection: str = Field(description="database and collection", examples=["whimbrel.somemodels"])
    kind: str = Field(description="migration, rollback, cleanup or verification", examples=["migration"])
    of: str | None = Field(
        description="the run that this one rolls back, cleans up or verifies", examples=[None]
    )
    undo: bool | Literal["document"] = Field(
        description="whether it keeps before-images: of the fields that it touches, or of the whole document",
        examples=[False],
    )
    undone_by: str | None = Field(description="the run that rolled this one back, or does", examples=[None])
    message: str = Field(description="what a person may want to know", examples=[""])
    error: str | None = Field(description="why it stopped", examples=[None])
    start_time: str | None = Field(description="RFC 3339", examples=["2026-11-24T12:00:00.000Z"])
    end_time: str | None = Field(description="RFC 3339", examples=[None])
    completed_at: str | None = Field(
        description="the same as `endTime`, by its earlier name", examples=[None]
    )
    duration: int | None = Field(
        description="milliseconds from `startTime` to `endTime`; null before its end", examples=[None]
    )
    created_at: str | None = Field(description="RFC 3339", examples=["2026-11-24T12:00:00.000Z"])
    updated_at: str | None = Field(description="RFC 3339", examples=["2026-11-24T12:00:00.000Z"])
    windows: list[str] = Field(
        description="hours in which it works; empty: at any time", examples=[["22:00-06:00 Europe/Berlin"]]
    )
    nice: int = Field(description="0 to 100: its share is at most 1/(1+nice)", examples=[0])
    state: Literal["working", "slowed", "waiting"] | None = Field(
        description="of a running run: whether it has its full speed, a part of it, or waits; null: it is not running",
        examples=["slowed"],
    )
    share: float | None = Field(
        ge=0, le=1, description="of a running run: the share of its speed that it has", examples=[0.25]
    )
    reasons: list[HeldBy] = Field(
        description="why, what holds it back most first; `message` has the same for people"
    )
    max_failures: int | None = Field(
        description="failed documents that it may have before it pauses; null: any number", examples=[None]
    )
    max_failure_rate: float | None = Field(
        description="share of the documents that may fail before it pauses; null: any", examples=[0.05]
    )
    max_new_cause: int | None = Field(
        description="failures of one cause that nobody has seen before, at which it pauses; null: any number",
        examples=[20],
    )
    over_budget: list[PassedLimit] = Field(
        description="why its failure budget had it pause; empty where it did not", examples=[[]]
    )
    follow: FollowOf | None = Field(
        description="of a run that goes on with what changes after its sweep; null: it does not",
        examples=[None],
    )
    stages: StagesOf | None = Field(
        description="the stages that it goes in; null: all at once", examples=[None]
    )


class Run(RunRow):
    """One execution of a migration; the old API's migration job."""

    update: Any = Field(
        description="of a declared migration: its update as it was evaluated at the start, as relaxed Extended JSON; null: a function",
        examples=[[{"$set": {"status": "success"}}]],
    )
    report: list[ProofOf] = Field(description="of a verification at its end: what it proved", examples=[[]])
    warnings: list[Warned] = Field(description="what preflight found before it started", examples=[[]])
    phases: list[PhaseOf] = Field(description="its progress by phase, in their order")


class Outcomes(Model):
    """Documents settled, by what became of them."""

    changed: int = Field(description="documents changed", examples=[499])
    unchanged: int = Field(description="documents that were right already", examples=[0])
    skipped: int = Field(description="documents that the function skipped", examples=[0])


class BatchOf(Model):
    """A slice of a run."""

    batch_id: str = Field(description="unique, and safe in a URL", examples=[f"{RUN}.1"])
    correlation_id: str = Field(description="the same", examples=[f"{RUN}.1"])
    parent_job_id: str = Field(description="id of the run", examples=[RUN])
    status: str = Field(
        description="queued, running, done (`completed` to clients of the old system) or cancelled",
        examples=["done"],
    )
    phase: str = Field(description="pending, processing, failed, sweep or follow", examples=["pending"])
    total_items: int = Field(description="documents planned, an estimate", examples=[500])
    processed_items: int = Field(
        description="documents evaluated, as far as it is known while it is worked on", examples=[499]
    )
    outcomes: Outcomes = Field(description="what became of them")
    total_chunks: int = Field(description="parts in which it is worked off", examples=[5])
    completed_chunks: int = Field(description="those that are known to be done", examples=[3])
    attempts: int = Field(description="how often it was claimed", examples=[1])
    duration_ms: int | None = Field(description="milliseconds from its claim to its end", examples=[120])
    duration: int | None = Field(description="the same as `durationMs`, by its earlier name", examples=[120])
    worker: str | None = Field(description="who claimed it last", examples=["host:4711:1f3a"])
    start_time: str | None = Field(
        description="when it was claimed last: RFC 3339", examples=["2026-11-24T12:00:00.000Z"]
    )
    end_time: str | None = Field(
        description="when it was settled: RFC 3339", examples=["2026-11-24T12:00:00.120Z"]
    )
    completed_at: str | None = Field(
        description="the same as `endTime`, by its earlier name", examples=["2026-11-24T12:00:00.120Z"]
    )
    error: str | None = Field(description="why it was lost, if it was", examples=[None])


class RunAnswer(Answer):
    """The run as it is now."""

    migration: Run = Field(description="the run")


class BatchAnswer(Answer):
    """The batch as it is now."""

    batch: BatchOf = Field(description="the batch")


def run_model(run_view: RunView) -> Run:
    return Run(**run_object(run_view))


def row_model(run_view: RunView) -> RunRow:
    return RunRow(**row_object(run_view))


def batch_model(batch: Batch) -> BatchOf:
    span = (
        int((batch.settled_at - batch.claimed_at).total_seconds() * 1000)
        if batch.settled_at and batch.claimed_at
        else None
    )
    lost = (
        f"Lost by {batch.takeovers} workers."
        if batch.takeovers and batch.status is not BatchStatus.DONE
        else None
    )
    return BatchOf(
        batch_id=batch.token, correlation_id=batch.token, parent_job_id=batch.run, status=str(batch.status), phase=batch.phase,
        total_items=batch.estimated, processed_items=batch.known.total, total_chunks=batch.chunks, completed_chunks=batch.chunks_done,
        outcomes=Outcomes(changed=batch.known.changed, unchanged=batch.known.unchanged, skipped=batch.known.skipped),
        attempts=batch.claims, duration_ms=span, duration=span, worker=batch.worker, start_time=iso_time(batch.claimed_at),
        end_time=iso_time(batch.settled_at), completed_at=iso_time(batch.settled_at), error=lost,
    )  # fmt: skip
