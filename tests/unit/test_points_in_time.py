"""Times without an offset are by this machine's clock, and refused where that has them twice or not at all."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from whimbrel.cli.arguments.freeze_files import moment
from whimbrel.cli.arguments.points_in_time import point_in_time
from whimbrel.errors import SettingsInvalid

NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2027-03-28T01:45", "2027-03-28T00:45"), ("2027-03-28T03:00", "2027-03-28T01:00"), ("2027-07-01", "2027-06-30T22:00"),
        ("2027-10-31T01:59", "2027-10-30T23:59"), ("2027-10-31T03:00", "2027-10-31T02:00"), ("2027-10-31T02:45+01:00", "2027-10-31T01:45"),
        ("2027-10-31T02:45+02:00", "2027-10-31T00:45"), ("2027-03-28T02:30Z", "2027-03-28T02:30"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("berlin")
def test_a_time_is_by_the_clock_of_this_machine(text: str, expected: str) -> None:
    wanted = datetime.fromisoformat(expected).replace(tzinfo=UTC)
    assert point_in_time(text) == moment("--until", text, NOW) == wanted


@pytest.mark.parametrize(
    ("text", "how"),
    [
        ("2027-03-28T02:00", "not at all"), ("2027-03-28T02:30", "not at all"), ("2027-10-31T02:00", "twice"), ("2027-10-31T02:45", "twice"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("berlin")
def test_a_time_that_the_clock_has_twice_or_not_at_all_is_refused(text: str, how: str) -> None:
    for parse in (point_in_time, lambda given: moment("--until", given, NOW)):
        with pytest.raises(
            SettingsInvalid, match=f"has {text} {how}, as it is changed then: give the time with its offset"
        ):
            parse(text)
