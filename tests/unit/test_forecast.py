"""Speed and end of a run: real runs, replayed second by second, against what came of them."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.domain.runs.forecast import KEPT, Forecast, ProgressSample, forecast, samples_to_keep

RECORDS = Path(__file__).parents[1] / "data/progress"  # by `python -m bench.progress`
Record = list[tuple[float, int, int]]  # seconds at work, documents evaluated, documents in all
WRONG = 0.2
ABOUT = 1.0  # seconds by which a time may be wrong: it was looked at twice a second, and is shown in whole seconds
IN_HAND = 800  # documents in work, as the runs were recorded: two worker processes, two slots, batches of 200
AROUND = 5.0  # seconds before and after a moment, in which its true speed is seen


def read(name: str) -> Record:
    found: Record = [tuple(each) for each in json.loads((RECORDS / f"{name}.json").read_text())]
    return found


def replayed(record: Record) -> list[tuple[float, Forecast]]:
    """What is said at each moment after the first tenth of the documents, and before all are evaluated."""
    samples: tuple[ProgressSample, ...] = ()
    said, end = [], end_of(record)
    for at, done, total in record:
        now = ProgressSample(at, done, total)
        if record[0][2] / 10 <= done and at < end:
            said.append((at, forecast(samples, now, IN_HAND)))
        if not samples or at - samples[-1].worked >= 1:
            samples = (*samples_to_keep(samples), now)
        assert len(samples) <= KEPT
    return said


def end_of(record: Record) -> float:
    """When all documents were evaluated for the first time."""
    for at, done, _ in record:
        if done >= record[0][2]:
            return at
    raise AssertionError


def speed_at(record: Record, moment: float) -> float:
    first = last = record[0]
    for each in record:
        if each[0] <= moment - AROUND:
            first = each
        if each[0] <= min(moment + AROUND, end_of(record)):
            last = each
    return (last[1] - first[1]) / (last[0] - first[0])


def wrong_times(record: Record) -> list[tuple[float, float, float]]:
    end, found = end_of(record), []
    for at, said in replayed(record):
        if said.eta is not None and abs(said.eta - (end - at)) > max(ABOUT, WRONG * (end - at)):
            found.append((at, said.eta, end - at))
    return found


@pytest.mark.parametrize("name", ["steady", "slow-start", "rate", "paused", "retrying"])
def test_the_end_of_an_even_run_is_known_after_its_first_tenth(name: str) -> None:
    record = read(name)
    said = replayed(record)
    known = sum(it.eta is not None for _, it in said)
    assert known >= 0.6 * len(said)
    assert not wrong_times(record)


def test_what_slows_down_is_told_no_wrong_end() -> None:
    record = read("slowing")
    assert not wrong_times(record)
    assert any(it.eta is not None for _, it in replayed(record))


def test_after_workers_have_joined_the_end_is_right_again() -> None:
    record = read("joined")
    end = end_of(record)
    later = [(at, it) for at, it in replayed(record) if at > end * 0.95]
    assert any(it.eta is not None for _, it in later)
    assert not [wrong for wrong in wrong_times(record) if wrong[0] > end * 0.95]


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda path: path.stem)
def test_the_speed_is_what_it_is_around_that_time(path: Path) -> None:
    record = read(path.stem)
    said = replayed(record)
    close = sum(abs(it.rate - speed_at(record, at)) <= WRONG * speed_at(record, at) for at, it in said)
    assert close >= (0.75 if path.stem in ("joined", "slowing") else 0.9) * len(said)


def test_while_only_failures_are_tried_again_no_end_is_said() -> None:
    record = read("retrying")
    end = end_of(record)
    assert record[-1][0] > end + 5, "it tried again for a while"
    samples: tuple[ProgressSample, ...] = ()
    for at, done, total in record:
        if at > end and done >= total:
            assert forecast(samples, ProgressSample(at, done, total)).eta is None
        if not samples or at - samples[-1].worked >= 1:
            samples = (*samples_to_keep(samples), ProgressSample(at, done, total))


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert forecast((), ProgressSample(0, 0, 10)) == Forecast(0.0, None)
    assert forecast((), ProgressSample(2, 100, 1000)).eta is None  # too little of it was seen
    even = tuple(ProgressSample(at, 10 * at, 1000) for at in range(1, 30))
    assert forecast(even, ProgressSample(30, 300, 300)).eta is None  # the estimate is overtaken
    assert forecast(even, ProgressSample(30, 300, 1000)).eta == pytest.approx(70)
    stuck = (*even, *(ProgressSample(at, 300, 1000) for at in range(30, 60)))
    assert forecast(stuck, ProgressSample(60, 300, 1000)) == Forecast(0.0, None)


def test_where_the_last_batches_may_end_one_after_the_other_no_end_is_said() -> None:
    even = tuple(ProgressSample(at, 100 * at, 20_000) for at in range(1, 121))
    now = ProgressSample(121, 12_100, 20_000)
    assert forecast(even, now).eta == pytest.approx(79)
    assert forecast(even, now, in_hand=2_000).eta == pytest.approx(79), "batches of 20 seconds"
    assert forecast(even, now, in_hand=8_000) == Forecast(100.0, None), "each as long as the rest"


@pytest.mark.parametrize("jitter", [0, 60])
def test_a_speed_that_somebody_has_set_lower_falls_no_longer(jitter: int) -> None:
    """Full speed for 17 seconds, then a rate: after another half minute of it the end is known, however far it is."""
    samples: tuple[ProgressSample, ...] = ()
    known = []
    for second in range(1, 90):
        done = 5500 * min(second, 17) + 1500 * max(0, second - 17) + jitter * (second % 3)
        now = ProgressSample(float(second), done, 400_000)
        known.append(forecast(samples, now, 20_000).eta)
        samples = (*samples_to_keep(samples), now)
    assert all(eta is not None for eta in known[50:])
    for second, eta in enumerate(known, 1):
        end = 17 + (400_000 - 17 * 5500) / 1500
        if second > 25 and eta is not None:
            assert eta == pytest.approx(end - second, rel=WRONG), second


@pytest.mark.parametrize("slots", [1, 2, 7])
def test_from_a_step_or_two_no_end_is_said(slots: int) -> None:
    """Batches of a minute each, of which several end at about the same time: between these times nothing is seen."""
    samples: tuple[ProgressSample, ...] = ()
    for second in range(1, 150):
        done = 1000 * sum(max(0, (second - slot) // 60) for slot in range(slots))
        now = ProgressSample(float(second), done, 1000 * slots * 10)
        assert forecast(samples, now).eta is None or second > 120, second
        samples = (*samples_to_keep(samples), now)


def test_samples_that_are_kept_reach_from_the_first_to_the_last_without_a_hole() -> None:
    samples: tuple[ProgressSample, ...] = ()
    for second in range(1, 20_000):
        samples = (*samples_to_keep(samples), ProgressSample(second, second, 100_000))
    ages = [20_000 - each.worked for each in samples]
    assert len(samples) == KEPT
    assert ages[0] > 19_000
    assert all(before - after <= max(1, before / 2) for before, after in pairwise(ages))


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**9), st.integers(0, 10**9)), max_size=KEPT))
def test_whatever_the_samples_are_something_is_said(rows: Record) -> None:
    samples = [ProgressSample(*each) for each in rows]
    found = forecast(samples[:-1], samples[-1] if samples else ProgressSample(0, 0, 0))
    assert found.eta is None or found.eta >= 0
