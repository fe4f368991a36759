"""Answers how the queue was over the last minutes, and what each worker process has done."""

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from whimbrel.api.authorization import Operator, Reader
from whimbrel.api.deployment import Deployment, ThisSystem
from whimbrel.api.event_streams import Event, ThisStreams
from whimbrel.api.models.envelope import Answer, Failure, Model, failures
from whimbrel.api.models.queues import BROKER, PROCESSING, BrokerName
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.engine.queueing.queue_history import (
    EVERY,
    QueueSample,
    QueueSampler,
    reset_counters,
    worker_counters,
)
from whimbrel.errors import WhimbrelError

router = APIRouter()


class SampleOf(Model):
    """The queue at one moment."""

    at: str = Field(description="RFC 3339", examples=["2026-11-24T12:00:00.000Z"])
    depths: dict[str, int] = Field(
        description="messages that lie ready, by queue, as in GET /queue/stats", examples=[{PROCESSING: 12}]
    )
    messages: int = Field(description="of all queues", examples=[12])
    in_hand: int = Field(description="batches that workers hold", examples=[2])
    consumers: int = Field(description="as in GET /queue/stats", examples=[3])
    batches_per_second: float = Field(
        description="batches settled in the minute before, by 60", examples=[1.25]
    )
    oldest_seconds: float | None = Field(
        description="age of the queued batch that has waited longest, since this process first saw it: at least so long; "
        "null where none is queued",
        examples=[4.2],
    )


class Monitoring(Answer):
    """The queue now and in the last minutes."""

    broker: BrokerName = Field(description=BROKER, examples=["rabbitmq"])
    current: SampleOf = Field(description="the newest sample, at most two seconds old")
    every_seconds: float = Field(description="between two samples", examples=[1.0])
    history: list[SampleOf] = Field(
        description="samples of the last five minutes, the newest last, since this process was first asked"
    )


class WorkOf(Model):
    """What a worker process has done."""

    name: str = Field(description="of the worker", examples=["host:4711:1f3a"])
    host: str = Field(description="where it runs", examples=["worker-7"])
    pid: int = Field(description="its process there", examples=[4711])
    processed: int = Field(description="batches settled", examples=[17])
    failed: int = Field(
        description="batches that it was the last to claim and that have unresolved failures", examples=[1]
    )
    active: int = Field(description="batches in hand", examples=[2])


class WorkersStats(Answer):
    """What the worker processes have done."""

    since: str | None = Field(
        description="when the counters were reset; null: each counts since its process started",
        examples=[None],
    )
    processed: int = Field(description="batches settled, of all", examples=[34])
    failed: int = Field(description="batches with unresolved failures, of all", examples=[1])
    active: int = Field(description="batches in hand, of all", examples=[3])
    workers: list[WorkOf] = Field(description="the live worker processes of the cluster")


class CountersReset(Answer):
    """The counters begin anew."""

    workers: int = Field(description="worker processes whose counters begin anew", examples=[2])


def _sample(sample: QueueSample) -> SampleOf:
    return SampleOf(
        at=iso_time(sample.taken_at) or "", depths={name: depth.ready for name, depth in sample.stats.queues.items()},
        messages=sample.stats.ready, in_hand=sample.in_hand, consumers=sample.stats.consumers, batches_per_second=sample.settled,
        oldest_seconds=sample.oldest,
    )  # fmt: skip


def sampler_of(request: Request, system: ThisSystem, deployment: Deployment) -> QueueSampler:
    """Returns this process's sampler, made at the first request, and again after a reconnection."""
    state = request.app.state
    deployment_and_sampler: tuple[object, QueueSampler] | None = getattr(state, "sampler", None)
    if deployment_and_sampler is None or deployment_and_sampler[0] is not deployment:
        parent, broker = system.parent, system.announcer.broker
        deployment_and_sampler = (
            deployment,
            QueueSampler(deployment.store.ledger, broker, lambda: system.ready and system.parent is parent),
        )
        state.sampler = deployment_and_sampler
    return deployment_and_sampler[1]


def _monitoring(sampler: QueueSampler) -> Monitoring:
    history = sampler.history()
    newest = _sample(history[-1])
    return Monitoring(
        broker=history[-1].stats.broker,
        current=newest,
        every_seconds=EVERY,
        history=[_sample(sample) for sample in history],
    )


@router.get(
    "/monitoring",
    response_model=Monitoring,
    responses={
        200: {
            "model": Monitoring,
            "content": {"text/event-stream": {}},
            "description": "with `stream` a `sample` event every second, or `error` while the broker does not answer",
        },
        **failures(422),
    },
)
async def monitoring(
    request: Request,
    system: ThisSystem,
    deployment: Deployment,
    _: Reader,
    streams: ThisStreams,
    *,
    stream: Annotated[bool, Query(description="server-sent events instead of one answer")] = False,
) -> Monitoring | StreamingResponse:
    """Depths, consumers, the rate, the oldest batch, and how they were in the last minutes."""
    sampler = sampler_of(request, system, deployment)
    if not stream:
        return await anyio.to_thread.run_sync(_monitoring, sampler)

    def look() -> Event:
        if not system.ready:
            return Event("error", _failed(system.reason, "not_ready"), last=True)
        try:
            return Event("sample", _sample(sampler.history()[-1]).model_dump_json(by_alias=True))
        except WhimbrelError as error:
            return Event("error", _failed(system.why(error), error.code))

    return streams.response(("queue", id(sampler)), EVERY, look)


def _failed(sentence: str, code: str) -> str:
    return Failure(error=sentence, code=code).model_dump_json(by_alias=True, exclude_none=True)


@router.get("/workers/stats", responses=failures())
def workers_stats(deployment: Deployment, _: Reader) -> WorkersStats:
    """Batches settled, failed and in hand, by worker process."""
    counters, since = worker_counters(deployment.store.ledger)
    rows = [
        WorkOf(
            name=worker.name, host=worker.host, pid=worker.pid, processed=worker.processed, failed=worker.failed, active=worker.active
        )
        for worker in counters
    ]  # fmt: skip
    return WorkersStats(
        since=iso_time(since), processed=sum(worker.processed for worker in rows), failed=sum(worker.failed for worker in rows),
        active=sum(worker.active for worker in rows), workers=rows,
    )  # fmt: skip


@router.post("/workers/reset-counter", responses=failures())
def reset_counter(deployment: Deployment, caller: Operator) -> CountersReset:
    """Let the counters of GET /queue/workers/stats begin anew. Workers are not touched: what they have done is noted and subtracted."""
    return CountersReset(workers=reset_counters(deployment.store.ledger, caller.who))
