"""The history of the database's health in few points, for charts: each the worst of its seconds."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from whimbrel.domain.health.signals import Level, Signal
from whimbrel.ports.health import HealthSample

MINUTES_15, DAY = timedelta(minutes=15), timedelta(days=1)  # how far the two rings reach back


def thinned(
    samples: Sequence[HealthSample], signals: Mapping[str, Signal], *, span: timedelta, points: int
) -> list[HealthSample]:
    """Returns at most so many samples, oldest first, evenly over `span` up to the last one: the smallest share, the worst level and values of each part.

    A part in which nothing was sampled has none.
    """
    if not samples:
        return []
    last, width = samples[-1].at, span / points
    parts: dict[int, HealthSample] = {}
    for sample in samples:
        place = int((last - sample.at) / width)
        if place < points:
            known = parts.get(place)
            parts[place] = sample if known is None else _worse(known, sample, signals)
    return [parts[place] for place in sorted(parts, reverse=True)]


def _worse(one: HealthSample, other: HealthSample, signals: Mapping[str, Signal]) -> HealthSample:
    values = dict(one.values)
    for name, value in other.values.items():
        low = name in signals and signals[name].low
        values[name] = (min if low else max)(values.get(name, value), value)
    level = max(one.level, other.level, key=lambda level: Level(level).rank)
    return HealthSample(max(one.at, other.at), min(one.share, other.share), level, values)
