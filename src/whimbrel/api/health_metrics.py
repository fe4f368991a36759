"""The metrics of the database's health: what runs may do, why not more, and for how long they were held back."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from whimbrel.domain.health.signal_states import SignalState
from whimbrel.domain.health.signals import SIGNALS, Level, Thresholds
from whimbrel.ports import HealthRecords

NUMBERS = "0 ok, 1 slow, 2 stop"


def health_metrics(records: HealthRecords) -> Iterator[Metric]:
    verdict, settings = records.verdict(), records.settings()
    yield GaugeMetricFamily(
        "whimbrel_health_share",
        "The share of their speed that runs may have now, 0 to 1.",
        value=verdict.allowed,
    )
    yield GaugeMetricFamily(
        "whimbrel_health_level", f"The worst that any signal asks for: {NUMBERS}.", value=verdict.level.rank
    )
    age = GaugeMetricFamily(
        "whimbrel_health_verdict_age_seconds",
        "Seconds since the database's health was sampled; from 5 on runs are held back.",
    )
    if verdict.age is not None:
        age.add_metric((), verdict.age)
    yield age
    value = GaugeMetricFamily(
        "whimbrel_signal_value", "The last value of a signal, in its unit.", labels=("signal", "unit")
    )
    threshold = GaugeMetricFamily(
        "whimbrel_signal_threshold",
        "From which value on runs go slower, or stop.",
        labels=("signal", "level"),
    )
    level = GaugeMetricFamily(
        "whimbrel_signal_level",
        f"What a signal asks for: {NUMBERS}; left out where it was never read.",
        labels=("signal",),
    )
    for name, signal in SIGNALS.items():
        state = verdict.signals.get(name, SignalState())
        if state.value is not None:
            value.add_metric((name, signal.unit), state.value)
        if state.level is not Level.UNKNOWN:
            level.add_metric((name,), state.asks.rank)
        for which, number in zip(
            ("slow", "stop"), settings.thresholds.get(name, Thresholds()).of(signal), strict=True
        ):
            if number is not None:
                threshold.add_metric((name, which), number)
    yield from (value, threshold, level)
    throttled = CounterMetricFamily(
        "whimbrel_throttled_seconds",
        "Seconds for which runs at work were held back, by the worst signal.",
        labels=("signal",),
    )
    for name, seconds in sorted(records.throttled().items()):
        throttled.add_metric((name,), seconds)
    yield throttled
