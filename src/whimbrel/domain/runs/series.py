"""A run's time series: what it did in each of a bounded number of stretches of time, however long it lasts.

A point is a stretch in which the run worked; where it waited or was paused there is none. Once there are too many, neighbours are merged
into stretches twice as wide, so a run of a minute and one of a month have equally many points. Sums of points stay exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from whimbrel.domain.runs.chunk_times import BOUNDS, ChunkTimes
from whimbrel.domain.runs.holdups import Holdup

MOST = 720  # points that are kept of a run
LEFT = 540  # to which they are merged, once there are as many as that
WIDTH = 5.0  # seconds of a point of a run that has only begun
SHORTEST = 1.0  # seconds of work that are a point of their own: the rate of less is an accident
SLACK = 1.1  # points are written a little later than their width asks for
SPARKS = 60  # stretches of the last minutes, kept beside the points
SPARK_SECONDS = 15  # of each of them


@dataclass(frozen=True, slots=True)
class Totals:
    """How far a run was at a time: everything since its beginning. `at`: seconds since the epoch, by the server's clock."""

    at: float
    worked: float = 0.0
    documents: int = 0
    failed: int = 0
    chunk_times: ChunkTimes = field(default_factory=ChunkTimes)


@dataclass(frozen=True, slots=True)
class Point:
    """A stretch of time in which a run worked. `failed`: documents with an unresolved failure at its end."""

    start: float  # seconds since the epoch
    end: float
    worked: float  # seconds, without waits and pauses between its start and its end
    documents: int  # evaluated in it; below zero where what a lost worker had done is no longer known
    failed: int
    shared: float  # the seconds that it worked, each times its share of its speed
    chunk_times: ChunkTimes = field(
        default_factory=ChunkTimes
    )  # of batches that became known as settled in it

    def __add__(self, later: "Point") -> "Point":
        return Point(
            self.start, later.end, self.worked + later.worked, self.documents + later.documents, later.failed,
            self.shared + later.shared, self.chunk_times + later.chunk_times,
        )  # fmt: skip

    @property
    def rate(self) -> float:
        """Documents a second of work."""
        return max(0.0, self.documents / self.worked) if self.worked > 0.0 else 0.0

    @property
    def share(self) -> float:
        """The mean share of its speed that the run had."""
        return min(1.0, self.shared / self.worked) if self.worked > 0.0 else 1.0


@dataclass(frozen=True, slots=True)
class Spark:
    """What a run did in one of the stretches of the last minutes. `number`: which, since the epoch."""

    number: int
    documents: int = 0
    worked: float = 0.0

    @property
    def rate(self) -> float:
        return max(0.0, self.documents / self.worked) if self.worked > 0.0 else 0.0


def step(before: Totals, now: Totals, share: float) -> Point | None:
    """Returns what a run did between two times; None where it did not work.

    It is put to the end: where less was worked than time has passed, the run was paused or waited before.
    """
    worked = min(now.worked - before.worked, now.at - before.at)
    documents = now.documents - before.documents
    times = _since(before.chunk_times, now.chunk_times)
    if worked <= 0.0 and not documents and not any(times.numbers):
        return None
    worked = max(0.0, worked)
    return Point(now.at - worked, now.at, worked, documents, now.failed, worked * share, times)


def _since(before: ChunkTimes, now: ChunkTimes) -> ChunkTimes:
    numbers = tuple(max(0, after - first) for first, after in zip(before.numbers, now.numbers, strict=True))
    return ChunkTimes(numbers, max(0.0, now.seconds - before.seconds))


def fits(first: Point, later: Point, width: float) -> bool:
    """Whether two neighbours may be one point of this width."""
    return later.end - first.start <= width * SLACK


def thinned(points: Sequence[Point], width: float, most: int) -> tuple[list[Point], float]:
    """Returns at most so many points, neighbours merged, and their width: as narrow as that allows."""
    kept = list(points)
    while len(kept) > most:
        width *= 2
        kept = _merged(kept, width)
    return kept, width


def _merged(points: Sequence[Point], width: float) -> list[Point]:
    merged = [points[0]]
    for point in points[1:]:
        if fits(merged[-1], point, width):
            merged[-1] += point
        else:
            merged.append(point)
    return merged


def median(times: ChunkTimes) -> float | None:
    """Returns the median time of chunks in seconds, as exactly as the classes of the histogram tell; None where there was none."""
    half = sum(times.numbers) / 2
    if not half:
        return None
    below, lower = 0, 0.0
    for bound, number in zip(BOUNDS[:-1], times.numbers[:-1], strict=True):
        if below + number >= half:
            return lower + (bound - lower) * (half - below) / number
        below, lower = below + number, bound
    return lower


def spark_after(spark: Spark | None, point: Point) -> Spark:
    """Adds a point to the stretch of the last minutes in which it ends."""
    number = int(point.end // SPARK_SECONDS)
    if spark is None or spark.number != number:
        spark = Spark(number)
    return replace(spark, documents=spark.documents + point.documents, worked=spark.worked + point.worked)


@dataclass(frozen=True, slots=True)
class Series:
    """What is kept of a run's course. `seen`: how far it was when that was written last."""

    seen: Totals
    width: float = WIDTH
    points: Sequence[Point] = ()
    holdups: Sequence[Holdup] = ()
    sparks: Sequence[Spark] = ()


def with_latest(series: Series, now: Totals, share: float) -> Sequence[Point]:
    """Returns the points with what the run has done since they were written."""
    point = step(series.seen, now, share)
    if point is None:
        return series.points
    last = series.points[-1] if series.points else None
    if last is not None and (fits(last, point, series.width) or point.worked < SHORTEST):
        return (*series.points[:-1], last + point)
    return (*series.points, point)
