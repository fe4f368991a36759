"""A run's time series: whatever is merged, sums stay exact, points stay few, and no rate is invented."""

import itertools
import random

import pytest

from whimbrel.domain.runs.chunk_times import BOUNDS, ChunkTimes
from whimbrel.domain.runs.holdups import Holdup, merged_holdups
from whimbrel.domain.runs.series import (
    Point,
    Series,
    Spark,
    Totals,
    median,
    spark_after,
    step,
    thinned,
    with_latest,
)


def times(*numbers: int, seconds: float = 0.0) -> ChunkTimes:
    return ChunkTimes((*numbers, *(0,) * (len(BOUNDS) - len(numbers))), seconds)


def test_a_step_is_what_lies_between_two_looks() -> None:
    before = Totals(100.0, 20.0, 1000, 3, times(1, 2, seconds=0.4))
    now = Totals(105.0, 25.0, 1600, 5, times(1, 2, 4, seconds=1.2))
    point = step(before, now, 0.5)
    assert point is not None
    assert (point.start, point.end, point.worked, point.documents, point.failed) == (
        100.0,
        105.0,
        5.0,
        600,
        5,
    )
    assert (point.rate, point.share) == (120.0, 0.5)
    assert point.chunk_times.numbers == times(0, 0, 4).numbers
    assert point.chunk_times.seconds == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (Totals(700.0, 20.0, 1000), None),  # it has waited all the time
        (Totals(700.0, 22.0, 1100), (698.0, 700.0, 100, 50.0)),  # and gone on two seconds ago
        (Totals(105.0, 25.0, 990), (100.0, 105.0, -10, 0.0)),  # what a lost worker had done is done again
        (
            Totals(101.0, 30.0, 1010),
            (100.0, 101.0, 10, 10.0),
        ),  # more cannot have been worked than time has passed
        (Totals(100.0, 20.0, 1007), (100.0, 100.0, 7, 0.0)),  # no time at all
    ],
)
def test_a_step_without_work_is_none_and_one_with_a_wait_is_at_its_end(
    now: Totals, expected: tuple[float, float, int, float] | None
) -> None:
    point = step(Totals(100.0, 20.0, 1000), now, 1.0)
    found = point and (point.start, point.end, point.documents, point.rate)
    assert found == expected


def test_a_long_life_fits_into_few_points_whose_sums_are_exact() -> None:
    chance = random.Random(7)
    points, width, clock, everything = list[Point](), 5.0, 0.0, 0
    truth = list[tuple[float, float, int]]()
    for number in range(20_000):
        clock += 5.0 if number % 400 else 5000.0  # now and then it was paused
        documents = (500 if number < 10_000 else 1500) + chance.randrange(-20, 20)
        truth.append((clock - 5.0, clock, documents))
        everything += documents
        points.append(Point(clock - 5.0, clock, 5.0, documents, number, 5.0, times(1)))
        if len(points) > 720:
            points, width = thinned(points, width, 540)
            assert len(points) <= 540
    assert len(points) <= 720
    assert sum(point.documents for point in points) == everything
    assert sum(point.worked for point in points) == 5.0 * 20_000
    assert sum(point.chunk_times.numbers[0] for point in points) == 20_000
    assert (points[0].start, points[-1].end, points[-1].failed) == (truth[0][0], clock, 19_999)
    for before, after in itertools.pairwise(points):
        assert before.end <= after.start
    for point in points:
        inside = [documents for start, end, documents in truth if point.start <= start and end <= point.end]
        assert (sum(inside), len(inside) * 5.0) == (point.documents, point.worked)
        assert point.end - point.start <= width * 1.1
        assert 95 <= point.rate <= 305


def test_points_are_as_narrow_as_their_number_allows() -> None:
    points = [Point(at, at + 5.0, 5.0, 10, 0, 5.0) for at in range(0, 500, 5)]
    assert thinned(points, 5.0, 100) == (points, 5.0)
    few, width = thinned(points, 5.0, 30)
    assert (len(few), width) == (25, 20.0)
    assert {(point.end - point.start, point.documents) for point in few} == {(20.0, 40)}
    assert len(thinned(points, 5.0, 1)[0]) == 1


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((), None),
        ((10,), 0.025),  # in the middle of the first class
        ((0, 0, 4), 0.175),
        ((5, 0, 5), 0.05),
        ((1, 1, 1, 1, 6), 0.25 + 0.25 * 1 / 1 + 0.5 * 1 / 6),
        ((0, 0, 0, 0, 0, 0, 0, 0, 3), 10.0),  # longer than any class
    ],
)
def test_the_median_of_chunks_is_read_from_their_histogram(
    numbers: tuple[int, ...], expected: float | None
) -> None:
    found = median(times(*numbers))
    assert found == (expected if expected is None else pytest.approx(expected))


def test_what_is_not_written_yet_is_added_when_a_series_is_read() -> None:
    written = Series(Totals(105.0, 5.0, 500), 5.0, (Point(100.0, 105.0, 5.0, 500, 0, 5.0),))
    assert with_latest(written, Totals(105.0, 5.0, 500), 1.0) == written.points
    soon = with_latest(written, Totals(105.4, 5.4, 540), 1.0)  # too little for a rate of its own
    assert [(point.start, point.end, point.documents) for point in soon] == [(100.0, 105.4, 540)]
    later = with_latest(written, Totals(108.0, 8.0, 900), 1.0)
    assert [(point.end, point.rate) for point in later] == [(105.0, 100.0), (108.0, pytest.approx(400 / 3))]
    none_yet = with_latest(Series(Totals(100.0)), Totals(100.2, 0.2, 10), 1.0)
    assert [point.documents for point in none_yet] == [10]


def test_sparks_add_up_what_ends_in_the_same_quarter_of_a_minute() -> None:
    spark = None
    for end in (1502.0, 1507.0, 1512.0, 1517.0):
        spark = spark_after(spark, Point(end - 5.0, end, 5.0, 100, 0, 5.0))
    assert spark == Spark(1517 // 15, 100, 5.0)  # the one before is not touched any more
    assert spark_after(spark, Point(1517.0, 1522.0, 5.0, 60, 0, 5.0)) == Spark(101, 160, 10.0)


def held(start: float, end: float, signal: str = "window") -> Holdup:
    return Holdup(start, end, "waiting", signal, signal, 0.0, 1, end - start)


def test_holdups_that_lie_closest_are_merged_and_none_is_lost() -> None:
    chance, clock, holdups = random.Random(3), 0.0, list[Holdup]()
    for _ in range(2000):
        clock += chance.choice((1.0, 1.0, 600.0))
        holdups.append(held(clock, clock + chance.choice((1.0, 2.0, 50.0))))
        clock = holdups[-1].end
    few = merged_holdups(holdups, 180)
    assert len(few) == 180
    assert sum(holdup.times for holdup in few) == 2000
    assert sum(holdup.seconds for holdup in few) == sum(each.end - each.start for each in holdups)
    assert (few[0].start, few[-1].end) == (holdups[0].start, clock)
    assert all(before.end <= after.start for before, after in itertools.pairwise(few))


def test_a_merged_holdup_says_what_the_longest_was() -> None:
    (one,) = merged_holdups([held(0.0, 1.0, "member-lag"), held(2.0, 60.0), held(61.0, 62.0, "freeze")], 1)
    assert (one.signal, one.times, one.seconds, one.start, one.end) == ("window", 3, 60.0, 0.0, 62.0)
    assert merged_holdups([], 3) == []
