"""One document that satisfies a query, without looking through a large collection for it."""

from collections.abc import Mapping
from typing import Any

from whimbrel.domain.bson.raw_bson import Key, split
from whimbrel.errors import TooSlow
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.subject import LOOK, Subject
from whimbrel.mongo.ranges import BY_ID


def find_one_quickly(subject: Subject, query: Mapping[str, Any]) -> Key | None:
    """A document that satisfies a query, if one turns up: among all where they are few, else in a random sample."""
    stages: list[Mapping[str, Any]] = [
        *subject.drawn,
        {"$match": query},
        {"$limit": 1},
        {"$project": {"_id": 1}},
    ]
    try:
        with translated():
            found = subject.collection.aggregate_raw_batches(stages, maxTimeMS=LOOK)
            return next((Key(each) for batch in found for each in split(bytes(batch))), None)
    except TooSlow:
        return None


def indexed(subject: Subject, query: Mapping[str, Any]) -> Key | None:
    """The same by the index on `_id`, which answers the query."""
    with translated():
        found = subject.collection.find_raw_batches(query, {"_id": 1}, hint=BY_ID, limit=1, max_time_ms=LOOK)
        return next((Key(each) for batch in found for each in split(bytes(batch))), None)
