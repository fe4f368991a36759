"""Keeps when the failures of a cause were met: a few numbers in its row, whose periods get longer as the run does.

They are for people who look. A crash may lose some, and a batch that is executed again counts again, so nothing is decided by them.
"""

from collections.abc import Mapping
from typing import Any

from pymongo import UpdateOne

from whimbrel.domain.failures.failure_query import Trend

PERIODS = 60  # that are kept
FIRST = 10_000  # milliseconds of a period at first; doubled whenever there would be more periods


def counting(run_id: str, group: str, number: int) -> UpdateOne:
    """Returns the update that counts so many failures of a cause now."""
    begun = {"$ifNull": ["$seen", {"since": "$$NOW", "width": FIRST, "counts": []}]}
    passed = {"$max": [0, {"$subtract": ["$$NOW", "$seen.since"]}]}
    period = {"$toInt": {"$min": [1_000_000_000, {"$floor": {"$divide": [passed, "$seen.width"]}}]}}
    doublings = {"$ceil": {"$log": [{"$divide": [{"$add": ["$at", 1]}, PERIODS]}, 2]}}
    joined = {"$cond": [{"$lt": ["$at", PERIODS]}, 1, {"$toInt": {"$pow": [2, doublings]}}]}
    last = {"$min": [PERIODS - 1, {"$toInt": {"$floor": {"$divide": ["$at", "$joined"]}}}]}
    together = {"$sum": {"$slice": ["$seen.counts", {"$multiply": ["$$this", "$joined"]}, "$joined"]}}
    now = {"$cond": [{"$eq": ["$$this", "$last"]}, number, 0]}
    counts = {"$map": {"input": {"$range": [0, {"$add": ["$last", 1]}]}, "in": {"$add": [together, now]}}}
    return UpdateOne(
        {"run": run_id, "group": group},
        [
            {"$set": {"seen": begun}},
            {"$set": {"at": period}},
            {"$set": {"joined": joined}},
            {"$set": {"last": last}},
            {"$set": {"seen": {"since": "$seen.since", "last": "$$NOW", "width": {"$multiply": ["$seen.width", "$joined"]}, "counts": counts}}},
            {"$unset": ["at", "joined", "last"]},
        ],
    )  # fmt: skip


def trend_of(row: Mapping[str, Any] | None) -> Trend | None:
    if row is None:
        return None
    return Trend(since=row["since"], last=row["last"], width=row["width"] / 1000, counts=tuple(row["counts"]))
