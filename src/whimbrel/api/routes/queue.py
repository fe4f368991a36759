"""Shows the queue and its consumers; tries, stops, starts and empties it."""

import time
from typing import Annotated

from fastapi import APIRouter, Body, Path, Query, Response

from whimbrel.api.answer_cache import ThisAnswerCache
from whimbrel.api.authorization import Admin, Operator, Reader
from whimbrel.api.deployment import Deployment, System, ThisSystem
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.envelope import WholeNumberText, failures
from whimbrel.api.models.queues import (
    PROCESSING,
    BrokerName,
    Consumers,
    ConsumersHealth,
    ConsumersSwitched,
    DeadLetters,
    DeadRetried,
    Published,
    Purged,
    PurgedAll,
    PurgedOne,
    QueueHealth,
    QueueStats,
    Restarted,
    SkippedRun,
    Switch,
    Trial,
    Tried,
    dead_model,
    stats_model,
    worker_model,
)
from whimbrel.api.routes import monitoring
from whimbrel.api.routes.health import broker_part, database_part
from whimbrel.api.test_batch import try_batch
from whimbrel.domain.runs.workers import ALIVE, LOST_FOR, LOST_SHOWN
from whimbrel.engine.queueing import queues
from whimbrel.engine.queueing.dead_failures import dead_failures
from whimbrel.ports.broker import DEAD_LETTER_QUEUE, QUEUES
from whimbrel.ports.ledger import CONSUMERS, Ledger

router = APIRouter(prefix="/queue", tags=["queue"])
router.include_router(monitoring.router)

ROUND_TRIP = 5.0  # seconds that a message may take
DRAINING = 30.0  # seconds that a restart waits for batches in hand
ANNOUNCED = "Batches of running runs were announced again; no batch is lost."
NOTHING = "There is nothing to purge: with the ledger broker the queue is the ledger, and batches are taken out by cancelling a run."


def broker_name(system: System) -> BrokerName:
    return "rabbitmq" if system.settings.rabbitmq_url else "ledger"


def _switch(ledger: Ledger) -> Switch:
    return "stopped" if ledger.leases.is_off(CONSUMERS) else "started"


@router.get("/stats", response_model=QueueStats, responses=failures())
async def stats(system: ThisSystem, deployment: Deployment, _: Reader, cache: ThisAnswerCache) -> Response:
    """How many messages lie in each queue, and who takes from it: counted twice a second at most."""
    return await cache.answer(
        "queue stats",
        lambda: (200, stats_model(queues.stats(deployment.store.ledger, system.announcer.broker))),
    )


@router.get(
    "/health", responses=failures() | {503: {"model": QueueHealth, "description": "it cannot be used"}}
)
def health(system: ThisSystem, _: Reader, response: Response) -> QueueHealth:
    """Whether batches reach the queue: with the ledger broker, whether MongoDB answers."""
    bad = [part for part in (database_part(system), broker_part(system)) if part.status != "OK"]
    response.status_code = 503 if bad else 200
    detail = bad[0].detail if bad else broker_part(system).detail
    switch: Switch = "started" if bad else _switch(system.deployment.store.ledger)
    return QueueHealth(
        status="ERROR" if bad else "OK", broker=broker_name(system), detail=detail, consumers=switch
    )


def consumer_status(system: ThisSystem, deployment: Deployment, _: Reader) -> Consumers:
    """The worker processes of the whole cluster, with what each has in hand."""
    ledger = deployment.store.ledger
    live_workers = ledger.leases.workers(ALIVE)
    return Consumers(
        broker=broker_name(system), consumers=_switch(ledger), alive=len(live_workers), slots=sum(worker.slots for worker in live_workers),
        in_hand=queues.in_hand(ledger), workers=[worker_model(worker) for worker in live_workers],
        lost=[worker_model(worker) for worker in ledger.leases.lost_workers(ALIVE, within=LOST_FOR, limit=LOST_SHOWN)],
    )  # fmt: skip


for number, path in enumerate(("/consumer-status", "/consumers/status")):
    router.get(path, responses=failures(), operation_id=f"queue_consumer_status_{number}")(consumer_status)


@router.get(
    "/consumers/health",
    responses=failures() | {503: {"model": ConsumersHealth, "description": "none is alive"}},
)
def consumers_health(deployment: Deployment, _: Reader, response: Response) -> ConsumersHealth:
    """Whether a worker process is alive anywhere."""
    live_workers = deployment.store.ledger.leases.workers(ALIVE)
    response.status_code = 200 if live_workers else 503
    return ConsumersHealth(
        status="OK" if live_workers else "ERROR", alive=len(live_workers), slots=sum(worker.slots for worker in live_workers),
        consumers=_switch(deployment.store.ledger),
    )  # fmt: skip


def try_publish(system: ThisSystem, deployment: Deployment, _: Operator) -> Published:
    """Send a message there and back; no document is touched.

    With RabbitMQ it is published, confirmed and mandatory, through the exchange of the batches, and consumed from an
    exclusive queue of its own. With the ledger broker a row is written into the ledger, read back as the majority has it, and removed.
    """
    took = queues.round_trip(deployment.store.ledger, system.announcer.broker, ROUND_TRIP)
    name = broker_name(system)
    way = "through the exchange and back" if name == "rabbitmq" else "into the ledger and back"
    return Published(broker=name, round_trip_ms=round(took * 1000, 3), way=way)


for number, path in enumerate(("/test-publish", "/test/publish")):
    router.post(path, responses=failures(413, 415), operation_id=f"queue_test_publish_{number}")(try_publish)


@router.post("/test-batch", responses=failures(400, 409, 413, 415, 422))
def migrate_samples(
    system: ThisSystem, caller: Operator, body: Annotated[Trial, Body(default_factory=Trial)]
) -> Tried:
    """Migrate sample documents by a real run, through the queue and by real workers.

    They are put into the collection of the built-in migration `some-model`, with a field `testBatch` by which the run selects
    exactly them, and are removed again whatever comes of it. 503 where that takes longer than 30 seconds: the run is cancelled then.
    """
    return try_batch(system, caller.who, body.count, broker_name(system))


@router.post("/consumers/start", responses=failures())
def start(deployment: Deployment, caller: Operator) -> ConsumersSwitched:
    """Let all consumers of the cluster take batches again."""
    changed = deployment.store.ledger.leases.switch(CONSUMERS, on=True, who=caller.who)
    return ConsumersSwitched(
        consumers="started", changed=changed, in_hand=queues.in_hand(deployment.store.ledger)
    )


@router.post("/consumers/stop", responses=failures())
def stop(deployment: Deployment, caller: Operator) -> ConsumersSwitched:
    """Stop all consumers of the cluster: batches in hand are finished, no other is taken, also after restarts of processes.

    Runs stay running, and their batches are planned and announced up to their window.
    """
    changed = deployment.store.ledger.leases.switch(CONSUMERS, on=False, who=caller.who)
    return ConsumersSwitched(
        consumers="stopped", changed=changed, in_hand=queues.in_hand(deployment.store.ledger)
    )


@router.post("/consumers/restart", responses=failures())
def restart(deployment: Deployment, caller: Operator) -> Restarted:
    """Stop, wait until nobody holds a batch, at most 30 seconds, and start, unless somebody has stopped them meanwhile."""
    began = time.monotonic()
    ledger = deployment.store.ledger
    drained = queues.restart(ledger, DRAINING, caller.who)
    return Restarted(consumers=_switch(ledger), drained=drained, seconds=round(time.monotonic() - began, 3))


@router.delete("/purge/{queueName}", responses=failures(404, 422))
def purge(
    system: ThisSystem,
    deployment: Deployment,
    caller: Admin,
    queue_name: Annotated[
        str, Path(alias="queueName", max_length=200, description="one of ours", examples=[PROCESSING])
    ],
) -> PurgedOne:
    """Remove what lies ready in a queue. No batch is lost: those of running runs are announced again at once."""
    if queue_name not in QUEUES:
        raise ApiError(
            404,
            "queue_unknown",
            f"There is no queue {queue_name[:100]!r} of ours. There are: {', '.join(QUEUES)}.",
        )
    purged = queues.purge(deployment.store.ledger, system.announcer, queue_name, caller.who)
    name = broker_name(system)
    return PurgedOne(
        broker=name,
        queue=queue_name,
        purged_messages=purged,
        message=NOTHING if name == "ledger" else ANNOUNCED,
    )


@router.delete("/purge-all", responses=failures())
def purge_all(system: ThisSystem, deployment: Deployment, caller: Admin) -> PurgedAll:
    """The same for all queues, the dead-letter queue too."""
    announcer, ledger = system.announcer, deployment.store.ledger
    purged_queues = [
        Purged(queue=queue, purged_messages=queues.purge(ledger, announcer, queue, caller.who))
        for queue in QUEUES
    ]
    name = broker_name(system)
    return PurgedAll(
        broker=name, queues=purged_queues, purged_messages=sum(purged.purged_messages for purged in purged_queues),
        message=NOTHING if name == "ledger" else ANNOUNCED,
    )  # fmt: skip


@router.get("/dead-letters", responses=failures())
def dead_letters(system: ThisSystem, deployment: Deployment, _: Reader) -> DeadLetters:
    """Which runs have dead failures, of the newest hundred that may have any, and how many messages lie in the dead-letter queue."""
    depths = queues.stats(deployment.store.ledger, system.announcer.broker).queues
    return dead_model(dead_failures(deployment.store.ledger), depths[DEAD_LETTER_QUEUE].ready)


@router.post("/retry-dlq", responses=failures(422))
def retry_dlq(
    system: ThisSystem,
    deployment: Deployment,
    caller: Operator,
    limit: Annotated[
        int, Query(ge=1, le=1000, description="dead failures to open again, at most"), WholeNumberText
    ] = 100,
) -> DeadRetried:
    """Try dead failures again, of all runs that may go on, oldest first; such a run goes on by the code that is loaded now.

    They stand in the ledger: what lies in the dead-letter queue are strangers' messages, and stays. Of a run with more
    than what is left of the limit the largest group of one cause that fits is taken; runs that cannot go on are listed.
    """
    opened, skipped = queues.retry_dead(deployment.store.ledger, system.loaded, limit, caller.who)
    return DeadRetried(
        retried_count=sum(opened.values()), migrations=opened,
        skipped=[SkippedRun(migration_id=run.run, dead=run.dead, reason=run.why) for run in skipped],
    )  # fmt: skip
