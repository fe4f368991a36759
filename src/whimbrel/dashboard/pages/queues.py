"""The queues: how deep they are, how long the oldest batch has waited, who takes from them, and what is dead."""

from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import APIRouter, Request, Response

from whimbrel.api.authorization import Reader
from whimbrel.api.deployment import Deployment, ThisSystem
from whimbrel.api.routes.monitoring import sampler_of
from whimbrel.dashboard.recently import Recently
from whimbrel.dashboard.rendering import render
from whimbrel.dashboard.small_multiples import picture
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.engine.queueing.dead_failures import Dead, dead_failures
from whimbrel.engine.queueing.queue_history import EVERY, QueueSample
from whimbrel.errors import WhimbrelError
from whimbrel.ports.broker import DEAD_LETTER_QUEUE, QUEUES
from whimbrel.ports.ledger import CONSUMERS

router = APIRouter()
SPAN = timedelta(minutes=5)
DEAD: Recently[Dead] = Recently(0.5)
ABOUT = {
    "app.processing.queue": "batches of runs",
    "app.priority.queue": "batches of runs whose priority is above 5",
    "app.retry.queue": "failed documents that are tried again",
    DEAD_LETTER_QUEUE: "messages that are none of ours",
}


@router.get("/dashboard/queues")
def queues(request: Request, system: ThisSystem, deployment: Deployment, _: Reader) -> Response:
    """Depth, age, consumers and dead letters. A broker that is away is said to be, and the rest is shown all the same."""
    ledger = deployment.store.ledger
    samples, problem = _samples(request, system, deployment)
    newest = samples[-1] if samples else None
    until = newest.taken_at if newest else datetime.now(UTC)
    rows = [_row(name, samples, until) for name in QUEUES]
    return render(
        request, "queues.html", broker="rabbitmq" if system.settings.rabbitmq_url else "ledger", newest=newest, rows=rows, problem=problem,
        stopped=ledger.leases.is_off(CONSUMERS), workers=len(ledger.leases.workers(ALIVE)), dead=DEAD.of(deployment.store, lambda: dead_failures(ledger)), dead_letters=DEAD_LETTER_QUEUE,
    )  # fmt: skip


def _samples(request: Request, system: ThisSystem, deployment: Deployment) -> tuple[list[QueueSample], str]:
    try:
        return list(sampler_of(request, system, deployment).history()), ""
    except WhimbrelError as error:
        return [], system.why(error)


def _row(name: str, samples: list[QueueSample], until: datetime) -> dict[str, Any]:
    depths = [
        (sample.taken_at, float(sample.stats.queues[name].ready))
        for sample in samples
        if name in sample.stats.queues
    ]
    queue = samples[-1].stats.queues.get(name) if samples else None
    drawn = picture(depths, until=until, span=SPAN, step=timedelta(seconds=EVERY))
    return {"name": name, "about": ABOUT[name], "queue": queue, "picture": drawn}
