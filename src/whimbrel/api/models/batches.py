"""Models of a run's batches in the API."""

from pydantic import Field

from whimbrel.api.models.envelope import Answer, Model
from whimbrel.api.models.example_ids import RUN
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.operating.run_view import iso_time


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


class BatchAnswer(Answer):
    """The batch as it is now."""

    batch: BatchOf = Field(description="the batch")


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
