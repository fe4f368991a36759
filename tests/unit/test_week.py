"""The next days as stretches: windows by the clocks on the wall, freezes, ticks. Clocks in Berlin go back on 2026-10-25 at 01:00 UTC."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from whimbrel.domain.runs.freezes import Freeze
from whimbrel.domain.runs.schedules import Plan
from whimbrel.domain.runs.week import SPAN, Stretch, freeze_stretches, ticks_until, window_stretches
from whimbrel.domain.runs.windows import read_window, share_at

MONDAY = datetime(2026, 11, 30, 12, tzinfo=UTC)


def hours(*texts: str, begins: datetime = MONDAY, days: float = 1) -> list[tuple[float, float, float]]:
    """Stretches as hours from their beginning, and the share."""
    found = window_stretches([read_window(text) for text in texts], begins, begins + timedelta(days=days))
    hour = timedelta(hours=1)
    return [((each.begins - begins) / hour, (each.ends - begins) / hour, each.share) for each in found]


def test_a_window_over_midnight() -> None:
    assert hours("22:00-06:00 UTC") == [(0, 10, 0), (10, 18, 1), (18, 24, 0)]
    assert hours("Mon-Fri 13:00-14:00 UTC share=0.2") == [(0, 1, 0.2), (1, 2, 1), (2, 24, 0.2)]
    assert hours() == [(0, 24, 1)]


def test_windows_that_touch_are_one() -> None:
    assert hours("12:00-14:00 UTC", "14:00-16:00 UTC") == [(0, 4, 1), (4, 24, 0)]


def test_a_night_with_an_hour_twice_is_longer() -> None:
    begins = datetime(2026, 10, 24, 12, tzinfo=UTC)
    assert hours("22:00-06:00 Europe/Berlin", begins=begins) == [(0, 8, 0), (8, 17, 1), (17, 24, 0)]


@given(
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 366 * 24 * 60), st.integers(0, 7 * 24 * 60 - 1),
)  # fmt: skip
def test_every_moment_lies_in_the_stretch_of_its_share(
    zone: str, start: int, end: int, offset: int, minute: int
) -> None:
    end = (start + 1) % 1440 if start == end else end
    window = read_window(f"{start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02} {zone} share=0.5")
    begins = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=offset)
    stretches = window_stretches([window], begins, begins + SPAN)
    moment = begins + timedelta(minutes=minute)
    [inside] = [each for each in stretches if each.begins <= moment < each.ends]
    assert inside.share == share_at([window], moment)


def test_freezes_within_the_time() -> None:
    day = timedelta(days=1)
    ends = MONDAY + SPAN
    over, planned = (Freeze(id=name, begins=MONDAY + begins * day, ends=MONDAY + end * day) for name, begins, end in (("a", -2, -1), ("b", 1, 2)))  # fmt: skip
    for_ever = Freeze(id="c", begins=MONDAY - day)
    lifted = Freeze(id="d", begins=MONDAY, ends=MONDAY + day, lifted_by="somebody")
    found = freeze_stretches([over, planned, for_ever, lifted], MONDAY, ends)
    assert found == [(planned, Stretch(MONDAY + day, MONDAY + 2 * day, 0.0)), (for_ever, Stretch(MONDAY, ends, 0.0))]  # fmt: skip


def test_ticks_are_named_up_to_a_number() -> None:
    found = ticks_until(Plan(migration="m", cron="0 3 * * *"), MONDAY, MONDAY + SPAN)
    assert found == [MONDAY.replace(hour=3) + timedelta(days=day) for day in range(1, 8)]
    assert ticks_until(Plan(migration="m", cron="* * * * *"), MONDAY, MONDAY + SPAN) is None
