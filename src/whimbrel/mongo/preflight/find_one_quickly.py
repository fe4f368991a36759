"""Finds one document that satisfies a query, without a scan of a large collection."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from whimbrel.domain.bson.raw_bson import Key, split
from whimbrel.errors import TooSlow
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.subject import LOOK, Subject
from whimbrel.mongo.random_sample import with_smaller_samples
from whimbrel.mongo.ranges import BY_ID


def find_one_quickly(subject: Subject, query: Mapping[str, Any]) -> Key | None:
    """Returns a document that satisfies a query, from all documents where they are few, else from a random sample."""
    stages: list[Mapping[str, Any]] = [
        *subject.drawn,
        {"$match": query},
        {"$limit": 1},
        {"$project": {"_id": 1}},
    ]
    try:
        with translated():
            return with_smaller_samples(partial(_first, subject), stages)
    except TooSlow:
        return None


def _first(subject: Subject, stages: list[Mapping[str, Any]]) -> Key | None:
    batches = subject.collection.aggregate_raw_batches(stages, maxTimeMS=LOOK)
    return next((Key(document) for batch in batches for document in split(bytes(batch))), None)


def indexed(subject: Subject, query: Mapping[str, Any]) -> Key | None:
    """Does the same with the index on `_id`, which answers the query."""
    with translated():
        batches = subject.collection.find_raw_batches(
            query, {"_id": 1}, hint=BY_ID, limit=1, max_time_ms=LOOK
        )
        return next((Key(document) for batch in batches for document in split(bytes(batch))), None)
