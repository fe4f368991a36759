"""When schedules are due: cron, the two odd nights of a year, and ticks that nobody was there for."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whimbrel.domain.runs.schedules import GRACE, Plan, check_cron, check_name, due, next_after
from whimbrel.domain.runs.time_zones import check_zone
from whimbrel.errors import SettingsInvalid
from whimbrel.settings import Settings, read_settings

BERLIN = "Europe/Berlin"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def ticks(cron: str, zone: str, start: str, count: int) -> list[str]:
    """The next ticks, in UTC, each asked for anew as the scheduler does."""
    found: list[str] = []
    moment = at(start)
    for _ in range(count):
        following = next_after(cron, zone, moment)
        assert following is not None
        moment = following
        found.append(moment.strftime("%d %H:%M:%S"))
    return found


@pytest.mark.parametrize(
    ("cron", "zone", "expected"),
    [
        ("*/1 * * * *", "UTC", ["24 12:01:00", "24 12:02:00"]),
        ("* * * * * *", "UTC", ["24 12:00:01", "24 12:00:02"]),
        ("*/20 30 12 * * *", "UTC", ["24 12:30:00", "24 12:30:20"]),
        ("0 3 * * *", "UTC", ["25 03:00:00", "26 03:00:00"]),
        ("0 3 * * *", BERLIN, ["25 02:00:00", "26 02:00:00"]),
        ("0 3 * * *", "America/New_York", ["25 08:00:00", "26 08:00:00"]),
        ("0 0 L * *", "UTC", ["30 00:00:00", "31 00:00:00"]),
        ("0 0 * * mon#1", "UTC", ["07 00:00:00", "04 00:00:00"]),
        ("0 12 * * TUE", "UTC", ["01 12:00:00", "08 12:00:00"]),
    ],
)
def test_the_next_ticks(cron: str, zone: str, expected: list[str]) -> None:
    assert ticks(cron, zone, "2026-11-24T12:00:00", 2) == expected


def test_a_fraction_of_a_second_does_not_repeat_a_tick() -> None:
    assert next_after("* * * * * *", "UTC", at("2026-11-24T12:00:00.999")) == at("2026-11-24T12:00:01")


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        # In Berlin on 29 March 2026, 02:00 is 03:00. A fixed time in the gap comes at its end, once.
        ("30 2 * * *", ["28 01:30:00", "29 01:00:00", "30 00:30:00"]),
        ("0,30 2 * * *", ["28 01:00:00", "28 01:30:00", "29 01:00:00", "30 00:00:00"]),
        # With seconds cronsim knows no such care: the night without that time has no tick.
        ("0 30 2 * * *", ["28 01:30:00", "30 00:30:00"]),
    ],
)
def test_the_hour_that_spring_leaves_out(cron: str, expected: list[str]) -> None:
    assert ticks(cron, BERLIN, "2026-03-28T00:30:00", len(expected)) == expected


def test_frequent_ticks_go_on_through_the_spring_gap() -> None:
    assert ticks("*/30 * * * *", BERLIN, "2026-03-29T00:00:00", 4) == [
        "29 00:30:00",
        "29 01:00:00",
        "29 01:30:00",
        "29 02:00:00",
    ]


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        # In Berlin on 25 October 2026 the hour from 02:00 comes twice: 00:00 and 01:00 UTC. A fixed time comes once.
        ("30 2 * * *", ["25 00:30:00", "26 01:30:00"]),
        # With seconds it comes twice.
        ("0 30 2 * * *", ["25 00:30:00", "25 01:30:00", "26 01:30:00"]),
        ("*/30 * * * *", ["24 22:30:00", "24 23:00:00", "24 23:30:00", "25 00:00:00", "25 00:30:00", "25 01:00:00"]),
    ],
)  # fmt: skip
def test_the_hour_that_autumn_has_twice(cron: str, expected: list[str]) -> None:
    assert ticks(cron, BERLIN, "2026-10-24T22:00:00", len(expected)) == expected


def test_asked_in_the_second_of_the_two_hours_it_never_names_the_first() -> None:
    moment = at("2026-10-25T01:10:00")  # 02:10 in Berlin, for the second time
    assert next_after("30 2 * * *", BERLIN, moment) == at("2026-10-26T01:30:00")


@given(
    cron=st.sampled_from(["30 2 * * *", "*/7 * * * *", "0 30 2 * * *", "15 1,2,3 * * *", "0 0 29 2 *"]),
    zone=st.sampled_from(
        ["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca"]
    ),
    moment=st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1)),  # noqa: DTZ001
)
def test_ticks_always_go_forward(cron: str, zone: str, moment: datetime) -> None:
    found = [moment.replace(tzinfo=UTC)]
    for _ in range(5):
        following = next_after(cron, zone, found[-1])
        assert following is not None
        assert following.microsecond == 0
        found.append(following)
    assert all(before < after for before, after in pairwise(found))


@pytest.mark.parametrize(
    "cron",
    ["", "* * * *", "* * * * * * *", "61 * * * *", "* * * * XYZ", "0 0 31 2 *", "0 0 */31 2 MON#5", "x" * 300, "٣ * * * *", "*/0 * * * *", "@daily"],
)  # fmt: skip
def test_a_cron_that_cannot_be_used_says_so_and_how_to_write_it(cron: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^cron .*(Write minute|Choose a day)"):
        check_cron(cron)


def test_blanks_are_evened_out() -> None:
    assert check_cron("  */5   *  * *\t* ") == "*/5 * * * *"


@pytest.mark.parametrize(
    "zone",
    ["", "Berlin", "Europe/Berlinn", "America", "../etc/passwd", "/etc/passwd", "a\0b", "\udcff", "localtime", "x" * 9999],
)  # fmt: skip
def test_a_zone_that_is_none(zone: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^zone .* is no time zone"):
        check_zone(zone)


def test_the_zone_that_was_meant_is_named() -> None:
    with pytest.raises(SettingsInvalid, match=r"Did you mean 'Europe/Berlin'\?"):
        check_zone("Europe/Berlinn")


@pytest.mark.parametrize(
    "name", ["", "$switch", ".a", "A", "a b", "a/b", "a\n", "é", "x" * 64, "\N{DEVANAGARI DIGIT ONE}"]
)
def test_names_that_do_not_fit_a_url(name: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"^name "):
        check_name(name)


def test_cron_schedule_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().first_schedule == Plan(migration="some-model", cron="*/1 * * * *", enabled=False)
    monkeypatch.setenv("CRON_SCHEDULE", "61 * * * *")
    with pytest.raises(SettingsInvalid, match="CRON_SCHEDULE='61 "):
        read_settings()


NOW = at("2026-11-24T12:00:00")
HOURLY = Plan(migration="m", cron="0 * * * *")
SECONDLY = Plan(migration="m", cron="* * * * * *")


def test_one_tick_that_is_due_stands_for_itself() -> None:
    found = due(HOURLY, NOW, NOW + timedelta(milliseconds=400))
    assert (found.first, found.tick, found.following, found.missed) == (
        NOW,
        NOW,
        NOW + timedelta(hours=1),
        False,
    )


def test_ticks_that_nobody_was_there_for_are_one_late_tick() -> None:
    first = NOW - timedelta(minutes=10)
    found = due(SECONDLY, first, NOW)
    assert (found.first, found.tick, found.missed) == (first, NOW, False)
    assert found.following == NOW + timedelta(seconds=1)


@pytest.mark.parametrize(
    ("late", "missed"),
    [(timedelta(minutes=59), False), (GRACE, False), (GRACE + timedelta(milliseconds=1), True)],
)
def test_after_an_hour_a_tick_is_missed(late: timedelta, missed: bool) -> None:
    daily = Plan(migration="m", cron="0 12 * * *")
    found = due(daily, NOW, NOW + late)
    assert (found.tick, found.missed, found.following) == (NOW, missed, NOW + timedelta(days=1))


def test_of_many_the_latest_counts_not_the_first() -> None:
    found = due(HOURLY, NOW - timedelta(days=400), NOW + timedelta(minutes=5))
    assert (found.first, found.tick, found.missed) == (NOW - timedelta(days=400), NOW, False)


def test_a_long_absence_is_quick_to_reckon() -> None:
    """Every second for three years would be 90 million ticks."""
    found = due(SECONDLY, NOW - timedelta(days=1000), NOW)
    assert found.tick == NOW
