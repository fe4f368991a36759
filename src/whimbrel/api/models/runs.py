"""Models of runs in the API."""

from typing import Any, Literal

from pydantic import Field

from whimbrel.api.models.envelope import Answer, Model
from whimbrel.api.models.example_ids import RUN
from whimbrel.api.models.run_parts import (
    FollowOf,
    PassedLimit,
    PhaseOf,
    ProofOf,
    RequestOf,
    SizingOf,
    StagesOf,
    Warned,
)
from whimbrel.api.models.terms import HeldBy
from whimbrel.engine.operating.run_view import RunView, row_object, run_object


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


class RunAnswer(Answer):
    """The run as it is now."""

    migration: Run = Field(description="the run")


def run_model(run_view: RunView) -> Run:
    return Run(**run_object(run_view))


def row_model(run_view: RunView) -> RunRow:
    return RunRow(**row_object(run_view))
