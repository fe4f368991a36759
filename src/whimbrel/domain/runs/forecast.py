"""How fast a run is, and when it will have evaluated everything: from samples of its progress.

The speed is that of the longest stretch back from now in which it was constant. Where it changes, or too little of it is
known, nothing is said about the end: a wrong time is worse than none.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

EVERY = 1.0  # seconds between two samples
KEPT = 72  # samples of a run at most
DENSE = 20  # of these, the newest, none of which is left out
FADING = 0.75  # how much coarser the samples get with age; 1: in proportion
BINS = 8  # parts of a stretch that are compared
SHORTEST = 4.0  # seconds of a stretch at least
SHOWN = 10.0  # seconds over which the shown speed is measured at most
SAME = 0.2  # the difference between the halves of a stretch in which the speed counts as the same
SHORTER = 0.7  # of a stretch that is tried next, where the speed was not constant
LATELY = 10.0  # recent seconds in which the speed must not be very different
ANOTHER = 0.5  # the difference that counts as very different
WRONG = 0.2  # the change of speed that is too much for a forecast
MAYBE = 0.35  # the same where it may be no change at all
MAYBE_FALLS = 0.5  # how much of an uncertain fall is believed
FALLING = 2.5  # standard errors by which a speed falls that may well go on falling
ONCE = 0.25  # of what a line leaves unexplained, where a speed fell once
VAGUE = 0.1  # the standard error of a speed that is too vague
RECENT = 8  # steps
COARSE = 0.5  # the part of a stretch that a step may take at most: what lies between two steps is not seen
AROUND = 2.0  # over so many stretches back from now: batches that end at about the same time come in waves
TAIL = 0.5  # of the time of a batch: so far apart the slots end
ABOUT = 1.0  # seconds that make no difference
STILL = 5.0  # seconds without a step that need not mean a standstill
SURE = 2.5  # standard errors from which a change of speed is no accident


@dataclass(frozen=True, slots=True)
class ProgressSample:
    """How far a run was. `worked`: the seconds that it had worked, so that pauses do not count."""

    worked: float
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """`rate`: recent documents a second. `eta`: seconds until all are evaluated; None where that is not known."""

    rate: float
    eta: float | None


def samples_to_keep(samples: Sequence[ProgressSample]) -> tuple[ProgressSample, ...]:
    """Returns the samples to keep beside the next one: all recent ones, and the fewer of the earlier ones the older they are."""
    if len(samples) < KEPT:
        return tuple(samples)
    end = samples[-1].worked

    def loss(number: int) -> float:
        """Returns how much is lost without this sample: the gap that it leaves, relative to its age."""
        return (samples[number + 1].worked - samples[number - 1].worked) / float(
            (end - samples[number].worked) ** FADING
        )

    least_useful = min(range(1, len(samples) - DENSE), key=loss)
    return (*samples[:least_useful], *samples[least_useful + 1 :])


def forecast(samples: Sequence[ProgressSample], now: ProgressSample, in_hand: int = 0) -> Forecast:
    """Forecasts from at most KEPT samples, in the order of their times, and the present progress.

    `in_hand`: documents of the batches being worked on. Near the end some slots have no other batch to take, and which do is not known.
    """
    points = _steps([ProgressSample(0.0, 0, 0), *samples, now])
    end = points[-1].worked
    lately, falling = _rate(points, LATELY), _falling_rate(points)
    length, rate = end, None
    while length >= SHORTEST:
        rates = _rates(points, end - length, end)
        early, late = sum(rates[: BINS // 2]), sum(rates[BINS // 2 :])
        mean = (early + late) / BINS
        even = abs(late - early) <= SAME * (late + early) / 2
        if even and (length < LATELY or abs(lately - mean) <= ANOTHER * mean):
            rate = _rate(points, min(length, SHOWN)) if rate is None else rate
            eta = _eta(rates, length, now.total - now.done, now.worked - end, falls=bool(falling))
            fine = _longest_step(points, end - AROUND * length) <= COARSE * length
            lasts = eta is not None and (eta < length or falling * eta / 2 <= WRONG)
            if eta is not None and lasts and fine and in_hand * TAIL <= rate * (WRONG * eta + ABOUT):
                return Forecast(rate, eta)
        length *= SHORTER
    return Forecast(lately if rate is None else rate, None)


def _longest_step(points: Sequence[ProgressSample], start: float) -> float:
    """Returns the seconds of the longest step that ended since `start`."""
    return max(
        (after.worked - before.worked for before, after in pairwise(points) if after.worked > start),
        default=0.0,
    )


def _falling_rate(points: Sequence[ProgressSample]) -> float:
    """Returns the part of its speed that a run has steadily lost each second, so that it may well continue to; 0 where it has not, or fell once."""
    start, end = points[min(1, len(points) - 1)].worked, points[-1].worked
    if end - start < SHORTEST:
        return 0.0
    rates = _rates(points, start, end)
    trend = _trend(rates)
    if trend.slope >= -FALLING * trend.error or _fell_once(rates, trend):
        return 0.0
    return -trend.slope / trend.mean / ((end - start) / BINS)


def _fell_once(rates: Sequence[float], trend: "_Trend") -> bool:
    """Whether two levels, as somebody has set its speed lower, describe the rates much better than a line does; it fell within one of the parts."""
    residual = min(_squares(rates[:part]) + _squares(rates[part + 1 :]) for part in range(BINS - 1))
    return residual < ONCE * trend.residual


def _squares(rates: Sequence[float]) -> float:
    mean = sum(rates) / max(1, len(rates))
    return sum((rate - mean) ** 2 for rate in rates)


def _eta(rates: Sequence[float], length: float, documents: int, since: float, *, falls: bool) -> float | None:
    """Estimates from the rates in the parts of a stretch that ended `since` seconds ago.

    Returns None where the speed is vague, or may well be different before half of the remaining documents are done.
    """
    trend = _trend(rates)
    steep = abs(trend.slope) > SURE * trend.error
    # The speed at the end of the stretch; where a fall may be an accident, half of it is believed.
    last = trend.mean + trend.slope * BINS / 2 * (
        1 if steep else MAYBE_FALLS if falls and trend.slope < 0 else 0
    )
    if documents <= 0 or last <= 0 or trend.spread > VAGUE * trend.mean:
        return None
    eta = documents / last
    ahead = (eta / 2) / (length / BINS) / last
    if abs(trend.slope) * ahead > (WRONG if steep else MAYBE) or trend.error * ahead > MAYBE:
        return None
    return max(0.0, eta - since)


@dataclass(frozen=True, slots=True)
class _Trend:
    """The rates in the parts of a stretch: their mean and its error, their growth from part to part and its error, and the squares that it leaves."""

    mean: float
    spread: float
    slope: float
    error: float
    residual: float


def _trend(rates: Sequence[float]) -> _Trend:
    mean, centre = sum(rates) / BINS, (BINS - 1) / 2
    squares = sum((part - centre) ** 2 for part in range(BINS))
    slope = sum((part - centre) * (rate - mean) for part, rate in enumerate(rates)) / squares
    residual = sum((rate - mean - slope * (part - centre)) ** 2 for part, rate in enumerate(rates))
    variance = residual / (BINS - 2)
    return _Trend(mean, sqrt(variance / BINS), slope, sqrt(variance / squares), residual)


def _rate(points: Sequence[ProgressSample], seconds: float) -> float:
    """Returns documents a second in the last seconds."""
    end = points[-1]
    start = max(0.0, end.worked - seconds)
    return (end.done - _done(points, start)) / (end.worked - start) if end.worked > start else 0.0


def _rates(points: Sequence[ProgressSample], start: float, end: float) -> list[float]:
    """Returns documents a second in each of the equal parts of a stretch."""
    width = (end - start) / BINS
    done = [_done(points, start + part * width) for part in range(BINS)] + [points[-1].done]
    return [(after - before) / width for before, after in pairwise(done)]


def _done(points: Sequence[ProgressSample], moment: float) -> float:
    """Returns how far the run was at a moment, interpolated between two samples."""
    number = bisect_left(points, moment, key=lambda point: point.worked)
    if number == 0 or number == len(points):
        return points[min(number, len(points) - 1)].done
    before, after = points[number - 1], points[number]
    return before.done + (moment - before.worked) / (after.worked - before.worked) * (
        after.done - before.done
    )


def _steps(samples: Sequence[ProgressSample]) -> list[ProgressSample]:
    """Returns the samples that were further than the one before. Documents are counted a chunk at a time: nothing is seen in between.

    Where nothing was seen for much longer than recently, the run stands still, and the last sample is a step too.
    """
    steps = list(samples[:1])
    for sample in samples[1:]:
        if sample.worked > steps[-1].worked and sample.done > steps[-1].done:
            steps.append(sample)
    gaps = [after.worked - before.worked for before, after in pairwise(steps[-RECENT:])]
    if samples[-1].worked - steps[-1].worked > max(STILL, 2 * max(gaps, default=0.0)):
        steps.append(samples[-1])
    return steps
