"""The metrics of webhooks."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from whimbrel.ports.webhooks import WebhookRecords


def webhook_metrics(records: WebhookRecords) -> Iterator[Metric]:
    counts = records.counts()
    ended = CounterMetricFamily(
        "whimbrel_webhook_deliveries", "Deliveries that have ended, by how.", labels=("outcome",)
    )
    ended.add_metric(("delivered",), counts.delivered)
    ended.add_metric(("failed",), counts.failed)
    yield ended
    yield CounterMetricFamily("whimbrel_webhook_tries", "Requests to receivers.", value=counts.tries)
    yield GaugeMetricFamily(
        "whimbrel_webhook_pending", "Deliveries that are due now or later.", value=counts.pending
    )
