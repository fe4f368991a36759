"""Answers Prometheus with metrics read from the ledger at that moment, the same on every instance."""

from collections.abc import Iterable

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse
from prometheus_client.core import CollectorRegistry, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from whimbrel.api.deployment import System, ThisSystem
from whimbrel.api.routes.health import broker_part, database_part
from whimbrel.domain.runs.states import ENDED, BatchStatus, RunStatus
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.engine.operating.following_runs import behind
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.unended_runs import unended_runs
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Ledger

router = APIRouter(tags=["health"])
SERIES = 100  # runs with series of their own: each costs some queries, and Prometheus asks often
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
    labels = ["run", "migration"]
    gauges = {
        "processed": GaugeMetricFamily("whimbrel_run_processed", "Documents evaluated.", labels=labels),
        "total": GaugeMetricFamily(
            "whimbrel_run_total", "Documents to evaluate, an estimate.", labels=labels
        ),
        "failed": GaugeMetricFamily(
            "whimbrel_run_failed", "Documents with an unresolved failure.", labels=labels
        ),
        "throughput": GaugeMetricFamily(
            "whimbrel_run_throughput", "Documents a second, of late.", labels=labels
        ),
        "eta": GaugeMetricFamily(
            "whimbrel_run_eta_seconds",
            "Seconds until every document was evaluated, where that is known.",
            labels=labels,
        ),
        "retrying": GaugeMetricFamily(
            "whimbrel_run_retrying",
            "Failures that are tried again, while nothing else is left.",
            labels=labels,
        ),
        "queued": GaugeMetricFamily(
            "whimbrel_run_queued_batches", "Batches that wait for a worker.", labels=labels
        ),
        "behind": GaugeMetricFamily(
            "whimbrel_run_follow_behind_seconds",
            "Of a run that follows: seconds for which what was written is not planned yet.",
            labels=labels,
        ),
    }
    for run in unended_runs(ledger.runs, {RunStatus.PAUSED, RunStatus.QUEUED}, most=SERIES):
        run_view = view(ledger, run)
        values = {
            "processed": run_view.processed, "total": run_view.total, "failed": run_view.failures["failed"], "throughput": run_view.throughput,
            "eta": run_view.eta, "retrying": run_view.retrying,
            "queued": ledger.batches.count(run.id, [BatchStatus.QUEUED]), "behind": behind(run, run_view.now or run.updated_at),
        }  # fmt: skip
        for name, value in values.items():
            if value is not None:
                gauges[name].add_metric([run.id, run.migration], value)
    yield from gauges.values()


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
