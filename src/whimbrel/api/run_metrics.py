"""The metrics of runs: series of their own only for those that have not ended, or within the last hour."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isinf

from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, BatchStatus, RunStatus
from whimbrel.engine.operating.following_runs import behind
from whimbrel.engine.operating.run_view import RunView, views
from whimbrel.engine.operating.unended_runs import unended_runs
from whimbrel.ports import Ledger

SERIES = 100  # runs with series of their own: each costs time, and Prometheus asks often
AFTERWARDS = 3600.0  # seconds after its end for which a run keeps them
LABELS = ("run", "migration")
GAUGES = {
    "processed": "Documents evaluated.",
    "total": "Documents to evaluate, an estimate.",
    "failed": "Documents with an unresolved failure.",
    "conflicts": "Documents that others kept changing, unresolved.",
    "throughput": "Documents a second, of late.",
    "eta_seconds": "Seconds until every document was evaluated, where that is known.",
    "retrying": "Failures that are tried again, while nothing else is left.",
    "queued_batches": "Batches that wait for a worker.",
    "follow_behind_seconds": "Of a run that follows: seconds for which what was written is not planned yet.",
}


def run_metrics(ledger: Ledger) -> Iterator[Metric]:
    shown = views(ledger, _runs(ledger))
    queued = _queued_batches(ledger, [each.run for each in shown])
    gauges = {
        name: GaugeMetricFamily(f"whimbrel_run_{name}", said, labels=LABELS) for name, said in GAUGES.items()
    }
    status = GaugeMetricFamily(
        "whimbrel_run_status", "1 for the state that the run has.", labels=(*LABELS, "status")
    )
    chunks = HistogramMetricFamily(
        "whimbrel_run_chunk_seconds",
        "Seconds that a chunk took, without rests, in settled batches.",
        labels=LABELS,
    )
    for each in shown:
        labels = (each.run.id, each.run.migration)
        status.add_metric((*labels, str(each.run.status)), 1.0)
        times = each.run.chunk_times
        chunks.add_metric(labels, [(_edge(le), float(n)) for le, n in times.cumulative], times.seconds)
        for name, value in _values(each, queued[each.run.id]).items():
            if value is not None:
                gauges[name].add_metric(labels, value)
    yield from gauges.values()
    yield status
    yield chunks


def _runs(ledger: Ledger) -> Sequence[Run]:
    unended = unended_runs(ledger.runs, {RunStatus.PAUSED, RunStatus.QUEUED}, most=SERIES)
    known = {run.id for run in unended}
    ended = ledger.runs.just_ended(AFTERWARDS, limit=SERIES - len(unended)) if len(unended) < SERIES else ()
    return [*unended, *(run for run in ended if run.id not in known)]


def _queued_batches(ledger: Ledger, runs: Sequence[Run]) -> Counter[str]:
    queued = Counter[str]()
    for (run_id, _, status), number in ledger.batches.open_counts(
        [run.id for run in runs if run.status not in ENDED]
    ).items():
        if status is BatchStatus.QUEUED:
            queued[run_id] += number
    return queued


def _edge(bound: float) -> str:
    """Returns the upper end of a class as Prometheus writes it."""
    return "+Inf" if isinf(bound) else str(bound)


def _values(run_view: RunView, queued: int) -> dict[str, float | None]:
    return {
        "processed": run_view.processed, "total": run_view.total, "failed": run_view.failures["failed"],
        "conflicts": run_view.failures["conflict"], "throughput": run_view.throughput, "eta_seconds": run_view.eta,
        "retrying": run_view.retrying, "queued_batches": queued, "follow_behind_seconds": behind(run_view.run, run_view.now or run_view.run.updated_at),
    }  # fmt: skip
