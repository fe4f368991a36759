"""Answers Prometheus with metrics read from the ledger at that moment, the same on every instance."""

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from whimbrel.api.deployment import System, ThisSystem
from whimbrel.api.health_metrics import health_metrics
from whimbrel.api.routes.health import broker_part, database_part
from whimbrel.api.run_metrics import run_metrics
from whimbrel.api.webhook_metrics import webhook_metrics
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Ledger

router = APIRouter(tags=["health"])
OPEN = [status for status in RunStatus if status not in ENDED]


class _State(Collector):
    def __init__(self, system: System) -> None:
        self._system = system

    def collect(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("whimbrel_up", "Whether a dependency can be used.", labels=["part"])
        for name, part in (("database", database_part(self._system)), ("broker", broker_part(self._system))):
            up.add_metric([name], 1.0 if part.status == "OK" else 0.0)
        yield up
        if self._system.ready:
            try:
                yield from _ledger_metrics(self._system.deployment.store.ledger)
            except WhimbrelError:  # MongoDB is away by now: whimbrel_up says so next time
                return


def _ledger_metrics(ledger: Ledger) -> Iterable[Metric]:
    by_status = GaugeMetricFamily("whimbrel_runs", "Runs that have not ended.", labels=["status"])
    counted = ledger.runs.counted(OPEN)
    for status in OPEN:
        by_status.add_metric([str(status)], counted.get(status, 0))
    yield by_status
    workers = ledger.leases.workers(ALIVE)
    yield GaugeMetricFamily("whimbrel_workers", "Worker processes that are alive.", value=len(workers))
    yield GaugeMetricFamily(
        "whimbrel_slots",
        "Batches that they can work on at a time.",
        value=sum(worker.slots for worker in workers),
    )
    yield GaugeMetricFamily(
        "whimbrel_slots_busy",
        "Batches that they work on now.",
        value=sum(len(worker.in_hand) for worker in workers),
    )
    yield from run_metrics(ledger)
    yield from health_metrics(ledger.health)
    yield from webhook_metrics(ledger.webhooks)


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={
        200: {"content": {"text/plain": {}}, "description": "the metrics, in Prometheus' text format"}
    },
)
def metrics(system: ThisSystem) -> PlainTextResponse:
    """Metrics for Prometheus."""
    registry = CollectorRegistry()
    registry.register(_State(system))
    return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
