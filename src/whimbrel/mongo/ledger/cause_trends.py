"""Keeps with each cause when it was met first and last, and how often over time (`domain/failures/trend.py`).

It is one statement for each page of failures and decides nothing, so it waits for no other member: what a crash loses is missing from the
trend alone. A batch that is executed twice is counted twice.
"""

from collections.abc import Mapping
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.write_concern import WriteConcern

from whimbrel.domain.failures.trend import FIRST, SPANS, Trend


class CauseTrends:
    """Adds to the rows of causes, and reads what was added."""

    def __init__(self, causes: Collection[Any]) -> None:
        self._causes = causes.with_options(write_concern=WriteConcern(1))

    def add(self, run_id: str, counts: Mapping[str, int]) -> None:
        """Adds attempts that have just failed, by group."""
        updates = [
            UpdateOne({"run": run_id, "group": group}, _with(number)) for group, number in counts.items()
        ]
        if updates:
            self._causes.bulk_write(updates, ordered=False)


def trend_of(row: Mapping[str, Any]) -> Trend | None:
    """Reads the trend of a cause's row; None where an earlier version wrote the row."""
    kept = row.get("trend")
    if kept is None:
        return None
    return Trend(kept["from"], kept["ms"] / 1000, tuple(int(number) for number in kept["n"]))


def _with(number: int) -> list[dict[str, Any]]:
    """Returns the update that adds to the span of now. Spans double, as often as needed, where there would be too many."""
    fresh = {"from": "$$NOW", "ms": FIRST, "n": []}
    age = {"$divide": [{"$subtract": ["$$NOW", "$trend.from"]}, "$trend.ms"]}
    doublings = {"$ceil": {"$log": [{"$divide": [{"$add": ["$at", 1]}, SPANS]}, 2]}}
    last = {"$toInt": {"$floor": {"$divide": ["$at", "$times"]}}}
    span = {
        "$add": [
            {"$sum": {"$slice": ["$trend.n", {"$multiply": ["$$span", "$times"]}, "$times"]}},
            {"$cond": [{"$eq": ["$$span", last]}, number, 0]},
        ]
    }
    return [
        {"$set": {"firstAt": {"$ifNull": ["$firstAt", "$$NOW"]}, "lastAt": "$$NOW", "trend": {"$ifNull": ["$trend", fresh]}}},
        # A clock that was set back adds to the last span.
        {"$set": {"at": {"$max": [0, {"$floor": age}, {"$subtract": [{"$size": "$trend.n"}, 1]}]}}},
        {"$set": {"times": {"$cond": [{"$lt": ["$at", SPANS]}, 1, {"$toInt": {"$pow": [2, doublings]}}]}}},
        {
            "$set": {
                "trend.ms": {"$multiply": ["$trend.ms", "$times"]},
                "trend.n": {"$map": {"input": {"$range": [0, {"$add": [last, 1]}]}, "as": "span", "in": span}},
            }
        },
        {"$unset": ["at", "times"]},
    ]  # fmt: skip
