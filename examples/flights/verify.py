"""Show a few flights as they are now, and check the times of all that were migrated against facts in the data.

The data say things in more than one way: `time_hour` is the hour of the scheduled departure in UTC,
`dep_delay` and `arr_delay` are minutes, and a flight takes its `air_time` and some time on the ground.
"""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pymongo import MongoClient

from whimbrel.bootstrap import database
from whimbrel.settings import read_settings

SHOWN = {
    "An ordinary flight": {"month": 1, "day": 1, "carrier": "UA", "flight": 1545},
    "Left at 24:00": {"month": 7, "day": 28, "carrier": "DL", "flight": 1247},
    "Landed in the hour that the clocks skipped": {"month": 3, "day": 9, "carrier": "B6", "flight": 35},
    "Cancelled": {"month": 1, "day": 1, "carrier": "AA", "flight": 1925},
    "Bound for an airport without a time zone": {"month": 1, "day": 1, "carrier": "B6", "flight": 725},
}
LOADED = (
    *("year", "month", "day", "dep_time", "sched_dep_time", "arr_time", "sched_arr_time"),
    *("air_time", "tailnum", "origin", "dest", "distance"),
)
MIGRATED = ("distance_km", "departure", "arrival", "cancelled")
MINUTE = timedelta(minutes=1)
GROUND = range(5, 240)  # minutes


def main() -> None:
    settings = read_settings()
    with database(settings) as uri, MongoClient[dict[str, Any]](uri, tz_aware=True) as client:
        flights = client[settings.database]["flights"]
        for title, query in SHOWN.items():
            flight = flights.find_one(query) or {}
            print(title)
            for names in (LOADED, MIGRATED):
                shown = [f"{name}={text(flight[name])}" for name in names if name in flight]
                print("   ", *(shown or ["(not migrated)"]))
        found: Counter[str] = Counter()
        for flight in flights.find():
            found.update(facts(flight))
        for fact, count in sorted(found.items()):
            print(f"{count:>8,}  {fact}")


def text(value: Any) -> str:
    if isinstance(value, dict):
        return "/".join("null" if when is None else f"{when:%Y-%m-%dT%H:%MZ}" for when in value.values())
    return "null" if value is None else str(value)


def facts(flight: dict[str, Any]) -> Iterator[str]:
    if "distance_km" in flight:
        yield "distance in km"
    if "departure" not in flight:
        yield "times as loaded"
        return
    yield "times in UTC"
    if flight["cancelled"]:
        yield "times in UTC: cancelled"
    scheduled = flight["departure"]["scheduled"]
    hour = datetime.fromisoformat(flight["time_hour"])
    yield agreement("scheduled departure and time_hour", timedelta(0) <= scheduled - hour < 60 * MINUTE)
    for name, delay in (("departure", flight["dep_delay"]), ("arrival", flight["arr_delay"])):
        if delay is not None:
            late = flight[name]["actual"] - flight[name]["scheduled"]
            yield agreement(f"{name}, scheduled and actual, and its delay", late == delay * MINUTE)
    if flight["air_time"] is not None:
        taken = (flight["arrival"]["actual"] - flight["departure"]["actual"]) // MINUTE
        yield agreement("time taken and air_time", taken - flight["air_time"] in GROUND)


def agreement(what: str, agrees: bool) -> str:
    return f"{what}: {'agree' if agrees else 'DISAGREE'}"


if __name__ == "__main__":
    main()
