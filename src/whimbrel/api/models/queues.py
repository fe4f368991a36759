"""Models of the queue in the API."""

from typing import Annotated, Literal

from pydantic import Field

from whimbrel.api.models.envelope import Answer, Model, WholeNumber
from whimbrel.api.models.example_ids import RUN
from whimbrel.domain.runs.workers import Worker as DomainWorker
from whimbrel.engine.operating.run_view import iso_time
from whimbrel.engine.queueing.dead_failures import Dead
from whimbrel.engine.queueing.queues import Stats

BrokerName = Literal["ledger", "rabbitmq"]
Switch = Literal["started", "stopped"]
BROKER = "what carries batches to workers: RabbitMQ, or the ledger alone, into which they look"
PROCESSING = "app.processing.queue"


class QueueOf(Model):
    """One queue."""

    message_count: int = Field(
        description="pointers that lie ready; with the ledger broker batches of running runs that are queued for this lane, "
        "and always 0 for the dead-letter queue, for nothing is laid aside there",
        examples=[12],
    )
    unacked: int = Field(description="batches of this lane that workers hold, by the ledger", examples=[2])
    consumer_count: int = Field(
        description="consumers as RabbitMQ counts them; with the ledger broker the live worker slots, each of which looks at all lanes",
        examples=[1],
    )


class Total(Model):
    """The sums over all queues."""

    messages: int = Field(description="of all queues", examples=[12])
    consumers: int = Field(description="of all queues; with the ledger broker each slot once", examples=[3])


class QueueStats(Answer):
    """How deep the queues are, and who takes from them."""

    broker: BrokerName = Field(description=BROKER, examples=["rabbitmq"])
    queues: dict[str, QueueOf] = Field(
        description="by name: processing, priority, retry and dead letters",
        examples=[{PROCESSING: {"messageCount": 12, "unacked": 2, "consumerCount": 1}}],
    )
    total: Total = Field(description="the sums")


class QueueHealth(Answer):
    """Whether batches reach the queue."""

    status: Literal["OK", "ERROR"] = Field(description="OK where batches reach the queue", examples=["OK"])
    broker: BrokerName = Field(description=BROKER, examples=["rabbitmq"])
    detail: str = Field(description="what it is, or why it cannot be used", examples=["RabbitMQ"])
    consumers: Switch = Field(
        description="whether a person has stopped all consumers; that is no error", examples=["started"]
    )


class Current(Model):
    """A batch in hand."""

    batch_id: str = Field(description="a batch in hand", examples=[f"{RUN}.1"])
    since: str | None = Field(description="RFC 3339", examples=["2026-11-24T12:00:00.000Z"])


class Refuses(Model):
    """A run that a worker does not serve."""

    migration_id: str = Field(description="a run whose code is not loaded there", examples=[RUN])
    pinned: str = Field(description="hash of the run's code", examples=["5721c65e8e6cd6f5"])
    here: str = Field(description="hash of what is loaded, or why none is", examples=["not loaded here"])


class WorkerOf(Model):
    """A worker process."""

    name: str = Field(description="host, process and a random part", examples=["host:4711:1f3a"])
    host: str = Field(examples=["worker-7"], description="where it runs")
    pid: int = Field(examples=[4711], description="its process there")
    version: str = Field(examples=["0.1.0"], description="of Whimbrel")
    slots: int = Field(examples=[2], description="batches that it can work on at a time")
    batches_done: int = Field(examples=[17], description="batches settled since it started")
    current: list[Current] = Field(description="batches in hand")
    refuses: list[Refuses] = Field(description="runs that it does not serve, for their code is another")
    started_at: str | None = Field(examples=["2026-11-24T12:00:00.000Z"], description="RFC 3339")
    seen_at: str | None = Field(examples=["2026-11-24T12:00:00.000Z"], description="its last sign of life")
    code: dict[str, str] = Field(
        description="hash of its code by migration: a run is served by those that have the run's",
        examples=[{"some-model": "5721c65e8e6cd6f5"}],
    )
    only: str | None = Field(description="the only run that it works on; null: all", examples=[None])
    loading: bool = Field(
        description="whether it imports the migrations still, and takes no batch yet", examples=[False]
    )


class Consumers(Answer):
    """The worker processes of the cluster."""

    broker: BrokerName = Field(description=BROKER, examples=["rabbitmq"])
    consumers: Switch = Field(
        description="whether they take batches, or a person has stopped them", examples=["started"]
    )
    alive: int = Field(description="worker processes that said so within five seconds", examples=[2])
    slots: int = Field(description="batches that they can work on at a time", examples=[4])
    in_hand: int = Field(description="batches that they hold now", examples=[1])
    workers: list[WorkerOf] = Field(description="of the whole cluster, by name")
    lost: list[WorkerOf] = Field(
        description="those that ended without a word in the last hour, or cannot be reached, the last first; 50 at most"
    )


class ConsumersHealth(Answer):
    """Whether a worker process is alive."""

    status: Literal["OK", "ERROR"] = Field(description="OK where a worker process is alive", examples=["OK"])
    alive: int = Field(description="worker processes", examples=[2])
    slots: int = Field(description="batches that they can work on at a time", examples=[4])
    consumers: Switch = Field(description="whether a person has stopped them", examples=["started"])


class Published(Answer):
    """The message went there and back."""

    broker: BrokerName = Field(description=BROKER, examples=["rabbitmq"])
    round_trip_ms: float = Field(description="milliseconds there and back", examples=[3.2])
    way: str = Field(description="which way it went", examples=["through the exchange and back"])


class Trial(Model):
    """What to try."""

    count: Annotated[int, Field(strict=True, ge=1, le=1000), WholeNumber] = Field(
        default=5, description="sample documents to migrate", examples=[5]
    )


class Tried(Answer):
    """The sample documents were migrated, checked and removed."""

    broker: BrokerName = Field(description=BROKER, examples=["rabbitmq"])
    migration_id: str = Field(description="the run that migrated them", examples=[RUN])
    count: int = Field(description="documents put in, migrated, checked, and removed again", examples=[5])
    workers: int = Field(description="live worker processes that could take the batch", examples=[2])
    migrated_ms: float = Field(
        description="milliseconds from starting the run until its end", examples=[412.5]
    )
    total_ms: float = Field(description="the same with putting in, checking and removing", examples=[498.1])


class ConsumersSwitched(Answer):
    """All consumers were started or stopped."""

    consumers: Switch = Field(description="as they are now, in the whole cluster", examples=["stopped"])
    changed: bool = Field(description="false where it was so already", examples=[True])
    in_hand: int = Field(description="batches that workers still hold; they are finished", examples=[1])


class Restarted(Answer):
    """The consumers were stopped and started."""

    consumers: Switch = Field(description="as they are now, in the whole cluster", examples=["started"])
    drained: bool = Field(
        description="whether nobody held a batch before they were started again", examples=[True]
    )
    seconds: float = Field(description="how long it took", examples=[1.2])


class Purged(Model):
    """What was removed from a queue."""

    queue: str = Field(description="name of the queue", examples=[PROCESSING])
    purged_messages: int = Field(description="pointers removed", examples=[12])


class PurgedOne(Answer, Purged):
    """What lay ready in the queue was removed."""

    broker: BrokerName = Field(description=BROKER, examples=["rabbitmq"])
    message: str = Field(
        description="what becomes of their batches", examples=["Their batches were announced again."]
    )


class PurgedAll(Answer):
    """What lay ready in all queues was removed."""

    broker: BrokerName = Field(description=BROKER, examples=["rabbitmq"])
    queues: list[Purged] = Field(description="each queue of ours")
    purged_messages: int = Field(description="of all queues", examples=[12])
    message: str = Field(
        description="what becomes of their batches", examples=["Their batches were announced again."]
    )


class SkippedRun(Model):
    """A run whose dead failures stay."""

    migration_id: str = Field(description="a run with dead failures", examples=[RUN])
    dead: int = Field(description="its dead failures", examples=[3])
    reason: str = Field(description="why they stay", examples=["Migration 'x' is not loaded here."])


class DeadRetried(Answer):
    """Dead failures were opened again."""

    retried_count: int = Field(description="dead failures opened again, at most `limit`", examples=[3])
    migrations: dict[str, int] = Field(description="how many by run; they go on", examples=[{RUN: 3}])
    skipped: list[SkippedRun] = Field(description="runs whose dead failures stay")


def stats_model(numbers: Stats) -> QueueStats:
    queues = {
        name: QueueOf(
            message_count=depth.ready,
            unacked=depth.in_hand,
            consumer_count=depth.consumers,
        )
        for name, depth in numbers.queues.items()
    }
    return QueueStats(
        broker=numbers.broker, queues=queues, total=Total(messages=numbers.ready, consumers=numbers.consumers)
    )


def worker_model(worker: DomainWorker) -> WorkerOf:
    return WorkerOf(
        name=worker.name, host=worker.host, pid=worker.pid, version=worker.version, slots=worker.slots, batches_done=worker.done,
        current=[Current(batch_id=batch.batch, since=iso_time(batch.since)) for batch in worker.in_hand],
        refuses=[Refuses(migration_id=refusal.run, pinned=refusal.pinned, here=refusal.here) for refusal in worker.refuses],
        started_at=iso_time(worker.started_at), seen_at=iso_time(worker.seen_at),
        code=dict(worker.code), only=worker.only, loading=worker.loading,
    )  # fmt: skip


class DeadOf(Model):
    """The dead failures of a run."""

    migration_id: str = Field(description="the run", examples=[RUN])
    migration: str = Field(description="name of its migration", examples=["some-model"])
    status: str = Field(description="its state", examples=["completed_with_failures"])
    dead: int = Field(description="failures that are not tried again by themselves", examples=[3])


class DeadLetters(Answer):
    """What is dead, and waits for a person."""

    messages: int = Field(
        description="messages in the dead-letter queue, which are none of ours; 0 with the ledger broker",
        examples=[0],
    )
    failures: int = Field(description="dead failures of the runs below", examples=[3])
    runs: list[DeadOf] = Field(description="runs with dead failures, newest first")
    looked_at: int = Field(description="newest runs that were looked at", examples=[100])
    complete: bool = Field(description="whether these are all runs that may have any", examples=[True])


def dead_model(found: Dead, messages: int) -> DeadLetters:
    return DeadLetters(
        messages=messages, failures=sum(each.dead for each in found.runs), looked_at=found.looked_at, complete=found.complete,
        runs=[DeadOf(migration_id=each.run.id, migration=each.run.migration, status=str(each.run.status), dead=each.dead) for each in found.runs],
    )  # fmt: skip
