"""How fast a run is, and when it will have evaluated everything: from samples of how far it was.

The speed is that of the longest stretch back from now in which it was the same. Where it changes, or too little of it is
known, nothing is said of the end: a wrong time is worse than none.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

EVERY = 1.0  # seconds between two samples
KEPT = 72  # samples of a run at most
DENSE = 20  # of these the newest, of which none is left out
FADING = 0.75  # how much coarser it gets with age; 1: in proportion
BINS = 8  # parts of a stretch that are compared
SHORTEST = 4.0  # seconds of a stretch
SHOWN = 10.0  # seconds over which the speed is taken at most
SAME = 0.2  # the difference between the halves of a stretch in which the speed counts as the same
SHORTER = 0.7  # of a stretch that is tried next, where that was not so
LATELY = 10.0  # seconds in which it must not be another altogether
ANOTHER = 0.5  # the difference that makes it another
WRONG = 0.2  # the change of speed that is too much for a forecast
MAYBE = 0.35  # where it may be no change at all
MAYBE_FALLS = 0.5  # how much of a fall is believed that may be none
FALLING = 2.5  # standard errors by which a speed falls that may well go on to
VAGUE = 0.1  # the standard error of a speed that says too little
RECENT = 8  # steps
COARSE = 0.5  # the part of a stretch that a step may take at most: what lies between two is not seen
AROUND = 2.0  # in so many stretches back from now: batches that end at about the same time come in waves
TAIL = 0.5  # of the time of a batch: by so much the slots do not end together
ABOUT = 1.0  # seconds that make no difference
STILL = 5.0  # seconds without a step in which it need not stand still
SURE = 2.5  # standard errors by which a change of speed is no accident


@dataclass(frozen=True, slots=True)
class ProgressSample:
    """How far a run was. `at`: in seconds that it has worked, so that pauses do not count."""

    at: float
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """`rate`: documents a second, of late. `eta`: seconds until all are evaluated; None where that is not known."""

    rate: float
    eta: float | None


def kept(samples: Sequence[ProgressSample]) -> tuple[ProgressSample, ...]:
    """Those beside which the next one is kept: all of late, and of earlier ones the fewer the longer ago they are."""
    if len(samples) < KEPT:
        return tuple(samples)
    end = samples[-1].at

    def told(number: int) -> float:
        """How much is lost without this one: the gap that it leaves, for its age."""
        return (samples[number + 1].at - samples[number - 1].at) / float((end - samples[number].at) ** FADING)

    least = min(range(1, len(samples) - DENSE), key=told)
    return (*samples[:least], *samples[least + 1 :])


def forecast(samples: Sequence[ProgressSample], now: ProgressSample, in_hand: int = 0) -> Forecast:
    """From at most KEPT samples, in the order of their times, and how far it is now.

    `in_hand`: documents of the batches that are in work. Near the end some slots have no other batch to take, and which do is not known.
    """
    points = _steps([ProgressSample(0.0, 0, 0), *samples, now])
    end = points[-1].at
    lately, falling = _rate(points, LATELY), _falling(points)
    length, rate = end, None
    while length >= SHORTEST:
        rates = _rates(points, end - length, end)
        early, late = sum(rates[: BINS // 2]), sum(rates[BINS // 2 :])
        mean = (early + late) / BINS
        even = abs(late - early) <= SAME * (late + early) / 2
        if even and (length < LATELY or abs(lately - mean) <= ANOTHER * mean):
            rate = _rate(points, min(length, SHOWN)) if rate is None else rate
            eta = _eta(rates, length, now.total - now.done, now.at - end, falls=bool(falling))
            fine = _longest(points, end - AROUND * length) <= COARSE * length
            lasts = eta is not None and (eta < length or falling * eta / 2 <= WRONG)
            if eta is not None and lasts and fine and in_hand * TAIL <= rate * (WRONG * eta + ABOUT):
                return Forecast(rate, eta)
        length *= SHORTER
    return Forecast(lately if rate is None else rate, None)


def _longest(points: Sequence[ProgressSample], start: float) -> float:
    """Seconds of the longest step that ended since then."""
    return max((after.at - before.at for before, after in pairwise(points) if after.at > start), default=0.0)


def _falling(points: Sequence[ProgressSample]) -> float:
    """The part of its speed that a run has lost a second all the while, so that it may well go on to; 0 where it has not."""
    start, end = points[min(1, len(points) - 1)].at, points[-1].at
    if end - start < SHORTEST:
        return 0.0
    it = _trend(_rates(points, start, end))
    return -it.slope / it.mean / ((end - start) / BINS) if it.slope < -FALLING * it.error else 0.0


def _eta(rates: Sequence[float], length: float, left: int, since: float, *, falls: bool) -> float | None:
    """From the rates in the parts of a stretch that ended some seconds since.

    None where the speed is vague, and where it may well become another until half of the rest is done.
    """
    it = _trend(rates)
    steep = abs(it.slope) > SURE * it.error
    # As fast as it is at the end of the stretch; where a fall may be an accident, half of it is believed.
    last = it.mean + it.slope * BINS / 2 * (1 if steep else MAYBE_FALLS if falls and it.slope < 0 else 0)
    if left <= 0 or last <= 0 or it.spread > VAGUE * it.mean:
        return None
    eta = left / last
    ahead = (eta / 2) / (length / BINS) / last
    if abs(it.slope) * ahead > (WRONG if steep else MAYBE) or it.error * ahead > MAYBE:
        return None
    return max(0.0, eta - since)


@dataclass(frozen=True, slots=True)
class _Trend:
    """The rates in the parts of a stretch: their mean and its error, by how much they grow from part to part and its error."""

    mean: float
    spread: float
    slope: float
    error: float


def _trend(rates: Sequence[float]) -> _Trend:
    mean, centre = sum(rates) / BINS, (BINS - 1) / 2
    squares = sum((at - centre) ** 2 for at in range(BINS))
    slope = sum((at - centre) * (rate - mean) for at, rate in enumerate(rates)) / squares
    rest = sum((rate - mean - slope * (at - centre)) ** 2 for at, rate in enumerate(rates)) / (BINS - 2)
    return _Trend(mean, sqrt(rest / BINS), slope, sqrt(rest / squares))


def _rate(points: Sequence[ProgressSample], seconds: float) -> float:
    """Documents a second in the last seconds."""
    end = points[-1]
    start = max(0.0, end.at - seconds)
    return (end.done - _done(points, start)) / (end.at - start) if end.at > start else 0.0


def _rates(points: Sequence[ProgressSample], start: float, end: float) -> list[float]:
    """Documents a second in each of the equal parts of a stretch."""
    width = (end - start) / BINS
    done = [_done(points, start + part * width) for part in range(BINS)] + [points[-1].done]
    return [(after - before) / width for before, after in pairwise(done)]


def _done(points: Sequence[ProgressSample], at: float) -> float:
    """How far it was at a time, between two samples as if it had gone on evenly."""
    number = bisect_left(points, at, key=lambda each: each.at)
    if number == 0 or number == len(points):
        return points[min(number, len(points) - 1)].done
    before, after = points[number - 1], points[number]
    return before.done + (at - before.at) / (after.at - before.at) * (after.done - before.done)


def _steps(samples: Sequence[ProgressSample]) -> list[ProgressSample]:
    """Those that were further than the one before. Documents are counted a chunk at a time: in between nothing is seen.

    Where nothing was seen for much longer than ever of late, it stands still, and the last of all is one too.
    """
    found = list(samples[:1])
    for each in samples[1:]:
        if each.at > found[-1].at and each.done > found[-1].done:
            found.append(each)
    gaps = [after.at - before.at for before, after in pairwise(found[-RECENT:])]
    if samples[-1].at - found[-1].at > max(STILL, 2 * max(gaps, default=0.0)):
        found.append(samples[-1])
    return found
