"""Displays use the room that a terminal has, and no more."""

import pytest

from tests.unit.test_terminal import terminal
from whimbrel.cli.output.progress_bar import Moment, progress
from whimbrel.cli.output.run_rows import columns_for, header, short, short_time
from whimbrel.cli.output.screen import Screen
from whimbrel.cli.output.sparklines import rates, sparkline
from whimbrel.domain.runs.forecast import ProgressSample


@pytest.mark.parametrize(("width", "shown"), [(60, 0), (80, 1), (200, 2)])
def test_the_bar_tells_more_where_there_is_room(width: int, shown: int) -> None:
    console, written = terminal(width)
    screen = Screen()
    screen.live, screen.err = True, console
    more = (
        "first fact",
        "second fact, of which there is more to be said than a narrow terminal has room for",
    )
    with progress(screen) as bar:
        bar.show(
            Moment(
                title="m",
                done=1,
                total=2,
                percent=50,
                rate=7,
                status="running (pending)",
                facts="3 failed",
                more=more,
            )
        )
    assert sum(fact in written.getvalue() for fact in more) == shown
    assert "\x1b[?25h" in written.getvalue(), "a program that is stopped or killed leaves the cursor"


@pytest.mark.parametrize("width", range(1, 300))
def test_columns_fit_any_width(width: int) -> None:
    columns = columns_for(width)
    assert columns
    assert header(width).cell_len <= max(width, 15)
    if width >= 80:
        names = [column.name for column, _ in columns]
        assert {"run", "migration", "state", "share", "done", "docs/s", "eta", "failed"} <= set(names)


def test_numbers_and_times_are_short() -> None:
    assert [short(number) for number in (0, 7.4, 99_999, 123_456, 1_234_567, 12e9)] == [
        "0", "7", "99,999", "123k", "1.23M", "12G",
    ]  # fmt: skip
    assert [short_time(seconds) for seconds in (61, 3661, 400 * 3600, 2000 * 86400)] == ["1:01", "1:01:01", "16d 16h", "2,000d"]  # fmt: skip
    assert all(len(short(10**power * 9.996)) <= 6 for power in range(14))


def test_the_rate_over_time_is_drawn() -> None:
    samples = [ProgressSample(0, 0, 400), ProgressSample(10, 100, 400), ProgressSample(20, 100, 400), ProgressSample(30, 300, 400)]  # fmt: skip
    assert rates(samples, 30, 3) == [10, 0, 20]
    assert sparkline(samples, 30, 3) == "▄ █"
    assert sparkline([], 0, 3) == ""
    assert sparkline(samples[:2], 30, 0) == ""
