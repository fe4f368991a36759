"""Windows: what is read, whether a moment is inside by the clock on the wall, and when they open; across both changes of the clock.

Clocks in Berlin are put forward on 2026-03-29 at 01:00 UTC, and back on 2026-10-25 at 01:00 UTC.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.domain.runs.windows import (
    MOST,
    check_windows,
    opens_at,
    read_window,
    share_at,
    windows_of,
    windows_sentence,
)
from whimbrel.errors import SettingsInvalid


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def inside(window: str, moment: str) -> bool:
    return read_window(window).is_inside(at(moment))


@pytest.mark.parametrize(
    ("text", "canonical"),
    {
        "22:00-06:00 Europe/Berlin": "22:00-06:00 Europe/Berlin",
        " 9:05 - 17:30 ": "09:05-17:30 UTC",
        "Mon-Fri 22:00\u201306:00 America/New_York": "Mon-Fri 22:00-06:00 America/New_York",
        "sat,sun 00:00-24:00 UTC share=0.25": "Sat,Sun 00:00-24:00 UTC share=0.25",
        "Friday - Monday 01:00-02:00 share=0.2 UTC": "Mon,Fri-Sun 01:00-02:00 UTC share=0.2",
        "Mon Wed tues 01:00-02:00": "Mon-Wed 01:00-02:00 UTC",
        "Mon-Sun 01:00-02:00 UTC share=0": "01:00-02:00 UTC",
        "12:00-24:00 UTC": "12:00-24:00 UTC",
    }.items(),
)
def test_what_people_write_is_read(text: str, canonical: str) -> None:
    assert check_windows([text]) == (canonical,)
    assert check_windows([canonical]) == (canonical,)


@pytest.mark.parametrize(
    ("text", "why"),
    {
        "": "it has no times",
        "at night": "it has no times",
        "22:00": "it has no times",
        "25:00-06:00 UTC": "25:00 is no time of the day",
        "22:00-06:60 UTC": "06:60 is no time of the day",
        "24:00-06:00 UTC": "24:00 is no time of the day",
        "22:00-24:01 UTC": "24:01 is no time of the day",
        "22:00-22:00 UTC": "it never opens",
        "00:00-00:00 UTC": "00:00-24:00",
        "22:00-06:00 Europe/Berlinn": "Did you mean 'Europe/Berlin'?",
        "22:00-06:00 localtime": "no time zone",
        "Mon-Fry 22:00-06:00 UTC": "'Fry' is no weekday",
        "Mo 22:00-06:00 UTC": "'Mo' is no weekday",
        "Mon- 22:00-06:00 UTC": "'' is no weekday",
        "22:00-06:00 UTC share=1.5": "share=1.5 is none",
        "22:00-06:00 UTC share=-0.1": "share=-0.1 is none",
        "22:00-06:00 UTC share=nan": "share=nan is none",
        "22:00-06:00 UTC share=": "share= is none",
        "22:00-06:00 UTC rate=5": "'rate=5' cannot be read",
        "22:00-06:00 UTC share=0.2 share=0.9": "'share=0.9' cannot be read",
        "22:00-06:00 utc": "Did you mean 'UTC'?",
        "22:00-06:00 europe/BERLIN": "Did you mean 'Europe/Berlin'?",
        "22:00-06:00 UTC Europe/Berlin": "'Europe/Berlin' cannot be read",
        "22:00-06:00 " + "x" * 200: "has more than 200 characters",
    }.items(),
)
def test_what_cannot_be_a_window_is_refused_with_the_place(text: str, why: str) -> None:
    with pytest.raises(SettingsInvalid) as refused:
        check_windows(["22:00-06:00 UTC", text])
    assert why in str(refused.value)
    assert str(refused.value).startswith(f"window {text[:60]!r}")


def test_a_run_has_a_limited_number_of_windows() -> None:
    assert len(check_windows([f"00:{minute:02}-01:00" for minute in range(MOST)])) == MOST
    with pytest.raises(SettingsInvalid, match="up to 20 windows, not 21"):
        check_windows([f"00:{minute:02}-01:00" for minute in range(MOST + 1)])
    assert check_windows(["1:00-2:00", "01:00-02:00 UTC"]) == ("01:00-02:00 UTC",)


@pytest.mark.parametrize(
    ("window", "moment", "expected"),
    [
        ("22:00-06:00 UTC", "2026-11-30T21:59:59", False),
        ("22:00-06:00 UTC", "2026-11-30T22:00:00", True),
        ("22:00-06:00 UTC", "2026-12-01T05:59:59", True),
        ("22:00-06:00 UTC", "2026-12-01T06:00:00", False),
        ("22:00-06:00 Europe/Berlin", "2026-11-30T21:00:00", True),  # 22:00 in Berlin
        ("22:00-06:00 Europe/Berlin", "2026-07-01T20:00:00", True),  # also 22:00 in Berlin
        ("22:00-06:00 Europe/Berlin", "2026-07-01T19:59:00", False),
        ("00:00-24:00 Asia/Kolkata", "2026-07-01T18:29:59", True),
        # A window over midnight belongs to its first day. 2026-12-04 is a Friday.
        ("Mon-Fri 22:00-06:00 UTC", "2026-12-04T23:00:00", True),
        ("Mon-Fri 22:00-06:00 UTC", "2026-12-05T05:00:00", True),
        ("Mon-Fri 22:00-06:00 UTC", "2026-12-05T22:30:00", False),
        ("Mon-Fri 22:00-06:00 UTC", "2026-12-07T05:00:00", False),  # Monday morning: of Sunday's night
        ("Sun 22:00-06:00 UTC", "2026-12-07T05:00:00", True),
        ("Sat,Sun 00:00-24:00 UTC", "2026-12-06T23:59:59", True),
        ("Sat,Sun 00:00-24:00 UTC", "2026-12-07T00:00:00", False),
        # Forward: 01:59 is followed by 03:00.
        ("02:00-03:00 Europe/Berlin", "2026-03-29T00:59:59", False),
        ("02:00-03:00 Europe/Berlin", "2026-03-29T01:00:00", False),
        ("02:30-04:00 Europe/Berlin", "2026-03-29T00:59:59", False),
        ("02:30-04:00 Europe/Berlin", "2026-03-29T01:00:00", True),  # 03:00
        ("02:30-04:00 Europe/Berlin", "2026-03-29T02:00:00", False),  # 04:00
        ("22:00-06:00 Europe/Berlin", "2026-03-29T03:59:59", True),  # an hour shorter that night
        ("22:00-06:00 Europe/Berlin", "2026-03-29T04:00:00", False),
        # Back: 02:00 to 03:00 comes twice.
        ("02:00-03:00 Europe/Berlin", "2026-10-25T00:00:00", True),
        ("02:00-03:00 Europe/Berlin", "2026-10-25T01:59:59", True),
        ("02:00-03:00 Europe/Berlin", "2026-10-25T02:00:00", False),
        ("01:30-02:30 Europe/Berlin", "2026-10-25T00:29:59", True),
        ("01:30-02:30 Europe/Berlin", "2026-10-25T00:30:00", False),
        ("01:30-02:30 Europe/Berlin", "2026-10-25T01:00:00", True),  # again
        ("01:30-02:30 Europe/Berlin", "2026-10-25T01:30:00", False),
    ],
)
def test_the_clock_on_the_wall_decides(window: str, moment: str, expected: bool) -> None:
    assert inside(window, moment) is expected


@pytest.mark.parametrize(
    ("window", "moment", "opening"),
    [
        ("22:00-06:00 Europe/Berlin", "2026-11-30T12:00:00", "2026-11-30T21:00:00"),
        ("Mon-Fri 22:00-06:00 UTC", "2026-12-05T12:00:30", "2026-12-07T22:00:00"),
        ("Sun 02:00-03:00 Europe/Berlin", "2026-03-28T00:00:00", "2026-04-05T00:00:00"),  # not in the gap
        ("02:30-04:00 Europe/Berlin", "2026-03-28T22:00:00", "2026-03-29T01:00:00"),
        ("01:30-02:30 Europe/Berlin", "2026-10-25T00:45:00", "2026-10-25T01:00:00"),  # put back into it
        ("02:30-02:45 Europe/Berlin", "2026-10-25T00:50:00", "2026-10-25T01:30:00"),
        ("02:15-03:00 Australia/Lord_Howe", "2026-10-03T12:00:00", "2026-10-03T15:30:00"),
    ],
)
def test_when_a_window_opens(window: str, moment: str, opening: str) -> None:
    found = opens_at(windows_of((window,)), at(moment))
    assert found is not None
    assert found[0] == at(opening)


def on_the_wall(moment: datetime, zone: str) -> tuple[str, str]:
    local = moment.astimezone(ZoneInfo(zone))
    return f"{local:%a}", f"{local:%H:%M}"


@given(
    zone=st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
    day=st.sampled_from(["2026-03-07", "2026-03-28", "2026-04-04", "2026-10-03", "2026-10-24", "2026-10-31"]),
    start=st.integers(0, 5 * 12),
    length=st.integers(1, 30),
    offset=st.integers(0, 36 * 60),
)
def test_the_next_opening_is_the_first_minute_inside(
    zone: str, day: str, start: int, length: int, offset: int
) -> None:
    """Minute by minute around changes of the clock, as text."""
    begin, end = f"{start // 12:02}:{start % 12 * 5:02}", (start + length) * 5
    window = f"{begin}-{end // 60:02}:{end % 60:02} {zone}"
    moment = at(f"{day}T00:00:00") + timedelta(minutes=offset)

    def is_inside(when: datetime) -> bool:
        return begin <= on_the_wall(when, zone)[1] < f"{end // 60:02}:{end % 60:02}"

    if is_inside(moment):
        return
    found = opens_at(windows_of((window,)), moment)
    assert found is not None
    minutes = [
        moment + timedelta(minutes=number)
        for number in range(1, int((found[0] - moment).total_seconds() / 60) + 1)
    ]
    assert [when for when in minutes if is_inside(when)] == minutes[-1:] == [found[0]]


def test_several_windows_and_what_is_left_outside() -> None:
    def share(moment: str, *texts: str) -> float:
        return share_at(windows_of(texts), at(moment))

    night, weekend = "Mon-Fri 22:00-06:00 UTC", "Sat,Sun 00:00-24:00 UTC share=0.2"
    assert share("2026-12-02T12:00:00") == 1.0
    assert share("2026-12-02T12:00:00", night) == 0.0
    assert share("2026-12-02T23:00:00", night, weekend) == 1.0
    assert share("2026-12-05T12:00:00", night, weekend) == 1.0
    assert share("2026-12-02T12:00:00", night, weekend) == 0.2
    assert share("2026-12-02T12:00:00", night, weekend, "01:00-02:00 share=0.5") == 0.5
    first = opens_at(windows_of((night, weekend)), at("2026-12-05T00:00:00") - timedelta(hours=12))
    assert first is not None
    assert (first[0], str(first[1])) == (at("2026-12-04T22:00:00"), night)


def test_what_windows_mean_is_said() -> None:
    assert windows_sentence(("22:00-06:00 UTC",)) == "22:00-06:00 UTC; outside it waits"
    assert windows_sentence(("01:00-02:00 UTC", "22:00-06:00 UTC share=0.2")) == (
        "01:00-02:00 UTC; 22:00-06:00 UTC; outside it has 20% of its speed"
    )
