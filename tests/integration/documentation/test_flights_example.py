"""The example of flights, on flights made by hand: no download."""

import importlib
import importlib.util
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pymongo.database import Database

EXAMPLE = Path(__file__).parents[3] / "examples" / "flights" / "migrations.py"
AIRPORTS = """faa,name,tzone
JFK,John F Kennedy Intl,America/New_York
BOS,General Edward Lawrence Logan Intl,America/New_York
LAX,Los Angeles Intl,America/Los_Angeles
HNL,Honolulu Intl,Pacific/Honolulu
XXX,Nowhere,NA
"""
FLIGHT = {
    "year": 2013, "month": 1, "day": 15, "origin": "JFK", "dest": "BOS", "distance": 187, "tailnum": "N1",
    "sched_dep_time": 1000, "dep_time": 1005, "dep_delay": 5,
    "sched_arr_time": 1110, "arr_time": 1110, "arr_delay": 0, "air_time": 40,
}  # fmt: skip

Migrate = Callable[..., dict[str, Any]]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("flights_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "airports.csv").write_text(AIRPORTS)
    monkeypatch.setattr(module, "AIRPORTS", tmp_path / "airports.csv")
    return module


@pytest.fixture
def migrate(example: ModuleType) -> Migrate:
    """What the function sets for the flight above with some fields changed."""

    def call(**fields: Any) -> dict[str, Any]:
        found: dict[str, Any] = example.utc_times({**FLIGHT, **fields})["$set"]
        return found

    return call


def utc(month: int, day: int, hour: int, minute: int) -> datetime:
    return datetime(2013, month, day, hour, minute, tzinfo=UTC)


def test_a_flight_by_day(migrate: Migrate) -> None:
    found = migrate()
    assert found["departure"] == {"scheduled": utc(1, 15, 15, 0), "actual": utc(1, 15, 15, 5)}
    assert found["arrival"] == {"scheduled": utc(1, 15, 16, 10), "actual": utc(1, 15, 16, 10)}
    assert found["cancelled"] is False


def test_arrivals_go_by_the_zone_of_the_destination(migrate: Migrate) -> None:
    found = migrate(
        dest="LAX", distance=2475, sched_arr_time=1320, arr_time=1310, arr_delay=-10, air_time=340
    )
    assert found["arrival"] == {"scheduled": utc(1, 15, 21, 20), "actual": utc(1, 15, 21, 10)}


def test_a_flight_of_eleven_hours_that_lands_on_the_same_day(migrate: Migrate) -> None:
    found = migrate(dest="HNL", distance=4983, sched_arr_time=1605, arr_time=1600, arr_delay=-5, air_time=630)
    assert found["arrival"] == {"scheduled": utc(1, 16, 2, 5), "actual": utc(1, 16, 2, 0)}


def test_an_arrival_past_midnight(migrate: Migrate) -> None:
    found = migrate(
        sched_dep_time=2255, dep_time=2254, dep_delay=-1, sched_arr_time=5, arr_time=2, arr_delay=-3
    )
    assert found["arrival"] == {"scheduled": utc(1, 16, 5, 5), "actual": utc(1, 16, 5, 2)}


def test_a_delay_past_midnight(migrate: Migrate) -> None:
    found = migrate(
        sched_dep_time=2100, dep_time=30, dep_delay=210, sched_arr_time=2210, arr_time=135, arr_delay=205
    )
    assert found["departure"] == {"scheduled": utc(1, 16, 2, 0), "actual": utc(1, 16, 5, 30)}
    assert found["arrival"] == {"scheduled": utc(1, 16, 3, 10), "actual": utc(1, 16, 6, 35)}


def test_a_departure_before_midnight_that_was_scheduled_after_it(migrate: Migrate) -> None:
    found = migrate(sched_dep_time=3, dep_time=2358, dep_delay=-5, sched_arr_time=110, arr_time=105)
    assert found["departure"] == {"scheduled": utc(1, 15, 5, 3), "actual": utc(1, 15, 4, 58)}


def test_a_delay_of_more_than_a_day(migrate: Migrate) -> None:
    found = migrate(dep_time=1010, dep_delay=24 * 60 + 10, arr_time=1115, arr_delay=24 * 60 + 5)
    assert found["departure"]["actual"] == utc(1, 16, 15, 10)
    assert found["arrival"]["actual"] == utc(1, 16, 16, 15)


def test_2400_is_the_midnight_after(migrate: Migrate) -> None:
    found = migrate(
        sched_dep_time=2250, dep_time=2400, dep_delay=70, sched_arr_time=2400, arr_time=59, arr_delay=59
    )
    assert found["departure"]["actual"] == utc(1, 16, 5, 0)
    assert found["arrival"]["scheduled"] == utc(1, 16, 5, 0)


def test_the_offsets_of_a_night_in_which_the_clocks_change(migrate: Migrate) -> None:
    spring = migrate(month=3, day=10, sched_dep_time=130, dep_time=300, dep_delay=30, arr_time=415)
    assert spring["departure"] == {"scheduled": utc(3, 10, 6, 30), "actual": utc(3, 10, 7, 0)}
    autumn = migrate(month=11, day=3, sched_dep_time=30, dep_time=230, dep_delay=180, arr_time=335)
    assert autumn["departure"] == {"scheduled": utc(11, 3, 4, 30), "actual": utc(11, 3, 7, 30)}


def test_an_hour_that_comes_twice_is_told_apart_by_the_time_in_the_air(migrate: Migrate) -> None:
    night = {"month": 11, "day": 2, "sched_dep_time": 2355, "dep_time": 2355, "dep_delay": 0, "arr_time": 110}
    assert migrate(**night, air_time=50)["arrival"]["actual"] == utc(11, 3, 5, 10)
    assert migrate(**night, air_time=100)["arrival"]["actual"] == utc(11, 3, 6, 10)


def test_a_time_that_never_was_is_read_by_a_clock_not_yet_put_forward(migrate: Migrate) -> None:
    found = migrate(month=3, day=10, sched_dep_time=100, dep_time=100, dep_delay=0, arr_time=210)
    assert found["arrival"]["actual"] == utc(3, 10, 7, 10)


def test_a_cancelled_flight_and_na(migrate: Migrate) -> None:
    gone = dict.fromkeys(("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum"), "NA")
    found = migrate(**gone)
    assert found["cancelled"] is True
    assert found["departure"] == {"scheduled": utc(1, 15, 15, 0), "actual": None}
    assert found["arrival"] == {"scheduled": utc(1, 15, 16, 10), "actual": None}
    assert {found[name] for name in gone} == {None}


def test_a_diverted_flight_lands_at_the_first_such_time_after_its_departure(migrate: Migrate) -> None:
    diverted = migrate(air_time="NA", arr_delay="NA", arr_time=955)
    assert diverted["arrival"]["actual"] == utc(1, 16, 14, 55)
    missing = migrate(air_time="NA", arr_delay="NA", arr_time="NA")
    assert missing["arrival"]["actual"] is None
    assert missing["cancelled"] is False


def test_nothing_changes_when_it_is_called_again(migrate: Migrate) -> None:
    once = migrate(dep_time="NA", dep_delay="NA", arr_time="NA", arr_delay="NA", air_time="NA")
    assert migrate(**once) == once


@pytest.mark.parametrize("dest", ["SJU", "XXX"])
def test_an_airport_without_a_zone_is_named(migrate: Migrate, example: ModuleType, dest: str) -> None:
    with pytest.raises(example.ZoneUnknown, match=f"no time zone for {dest}"):
        migrate(dest=dest)


@pytest.mark.parametrize("hhmm", [1260, 2401, -1])
def test_what_is_no_time_of_day_is_refused(migrate: Migrate, hhmm: int) -> None:
    with pytest.raises(ValueError, match="no time of day"):
        migrate(arr_time=hhmm)


def test_its_programs_take_the_database_that_the_commands_take(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    mongo_uri: str,
    database: Database[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "airports.csv").write_text(AIRPORTS)
    row = {**FLIGHT, "carrier": "UA", "flight": 1545, "time_hour": "2013-01-15T15:00:00Z"}
    with zipfile.ZipFile(tmp_path / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    monkeypatch.delenv("MONGODB_DB_NAME", raising=False)
    monkeypatch.setenv("MONGODB_URI", mongo_uri.replace("/?", f"/{database.name}?", 1))
    monkeypatch.setattr(importlib.import_module("load"), "FOLDER", tmp_path)
    for name in ("load", "verify", "compare"):
        importlib.import_module(name).main()
    told = capsys.readouterr().out
    assert f"{database.name}.flights: 1 documents" in told
    assert "1  times as loaded" in told
    assert "1  as loaded, byte for byte" in told
