"""Makes spans with OpenTelemetry's SDK, as its variables OTEL_* say.

The trace of a run, and the run's own span in it, have ids that follow from the run's id: each process knows them, and nobody must tell another.
"""

import hashlib
import os
import threading
from datetime import datetime
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.masking import masked
from whimbrel.ports.tracing import BatchSpan

CLOSING = 2.0  # seconds that sending the last spans may take
NAMED_BY_USER = ("OTEL_SERVICE_NAME", "service.name=")


class SpanOfBatch:
    """Implements `whimbrel.ports.tracing.BatchSpan`."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, outcome: str, counts: Counts, failed: int, *, error: str = "") -> None:
        self._span.set_attributes(
            {"whimbrel.outcome": outcome, **_numbers(counts), "whimbrel.failed": failed}
        )
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


class OpenTelemetryTracing:
    """Implements `whimbrel.ports.tracing.Tracing`. `exporter`: None: to the collector that the environment names."""

    def __init__(self, name: str, exporter: SpanExporter | None = None) -> None:
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            resource=Resource.create(_about(name)), id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("whimbrel", version("whimbrel"))

    def batch(self, run: Run, batch: Batch) -> BatchSpan:
        attributes: dict[str, str | int] = {
            **_of_run(run),
            "whimbrel.batch": batch.token,
            "whimbrel.phase": batch.phase,
            "whimbrel.claim": batch.claims,
        }
        return SpanOfBatch(self._tracer.start_span("batch", context=self._within(run), attributes=attributes))

    def run_ended(self, run: Run) -> None:
        attributes: dict[str, str | int] = {
            **_of_run(run),
            "whimbrel.status": str(run.status),
            **_numbers(run.counts),
        }
        with self._ids.given(trace_id(run.id), span_id(run.id)):
            span = self._tracer.start_span(
                f"{run.kind} {run.migration}", context=Context(), attributes=attributes,
                start_time=_nanoseconds(run.started_at or run.created_at),
            )  # fmt: skip
        if run.status is RunStatus.FAILED:
            span.set_status(Status(StatusCode.ERROR, masked(run.error or "")))
        span.end(end_time=_nanoseconds(run.ended_at or run.updated_at))

    def close(self) -> None:
        # A collector that does not answer is asked again for long: in a thread that nobody waits for.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True, name="sending spans")
        closing.start()
        closing.join(CLOSING)

    def _within(self, run: Run) -> Context:
        """Returns the context of a run's span, which another process makes when the run has ended. Its sampling is decided by the trace's id."""
        decision = self._provider.sampler.should_sample(Context(), trace_id(run.id), "run").decision
        flags = TraceFlags(
            TraceFlags.SAMPLED if decision is Decision.RECORD_AND_SAMPLE else TraceFlags.DEFAULT
        )
        parent = SpanContext(trace_id(run.id), span_id(run.id), is_remote=True, trace_flags=flags)
        return set_span_in_context(NonRecordingSpan(parent), Context())


class _GivenIds(RandomIdGenerator):
    """Gives the ids that a thread asks for, within `with given(...)`; else any."""

    def __init__(self) -> None:
        self._asked = threading.local()

    def given(self, trace: int, span: int) -> "_Given":
        return _Given(self._asked, (trace, span))

    def generate_trace_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._asked, "ids", None)
        return super().generate_trace_id() if ids is None else ids[0]

    def generate_span_id(self) -> int:
        ids: tuple[int, int] | None = getattr(self._asked, "ids", None)
        return super().generate_span_id() if ids is None else ids[1]


class _Given:
    """While this is entered, a thread's spans have these ids."""

    def __init__(self, asked: threading.local, ids: tuple[int, int]) -> None:
        self._asked, self._ids = asked, ids

    def __enter__(self) -> None:
        self._asked.ids = self._ids

    def __exit__(self, *_: object) -> None:
        self._asked.ids = None


def trace_id(run_id: str) -> int:
    """Returns the id of a run's trace: the first 16 bytes of the SHA-256 of its id."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:16])


def span_id(run_id: str) -> int:
    """Returns the id of a run's own span: the next 8 bytes."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[16:24])


def _about(name: str) -> dict[str, str]:
    """Returns what is said of this process. A name that the environment gives goes before."""
    said, attributes = os.environ.get(NAMED_BY_USER[0]), os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    given = bool(said) or NAMED_BY_USER[1] in attributes
    return {
        "service.version": version("whimbrel"),
        "service.instance.id": name,
        **({} if given else {"service.name": "whimbrel"}),
    }


def _of_run(run: Run) -> dict[str, str]:
    return {
        "whimbrel.run": run.id, "whimbrel.migration": run.migration, "whimbrel.kind": run.kind, "db.system.name": "mongodb",
        "db.namespace": run.database, "db.collection.name": run.collection,
    }  # fmt: skip


def _numbers(counts: Counts) -> dict[str, int]:
    return {
        "whimbrel.changed": counts.changed,
        "whimbrel.unchanged": counts.unchanged,
        "whimbrel.skipped": counts.skipped,
    }


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000) * 1000
