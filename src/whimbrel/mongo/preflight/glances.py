"""One document that satisfies a query."""

from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.raw import Key, split
from whimbrel.errors import TooSlow
from whimbrel.mongo.errors import translated
from whimbrel.mongo.preflight.subject import LOOK


def glance(collection: Collection[Any], query: dict[str, Any]) -> Key | None:
    """A document that satisfies a query, if one turns up in bounded time."""
    try:
        with translated():
            found = collection.find_raw_batches(query, {"_id": 1}, limit=1, max_time_ms=LOOK)
            return next((Key(each) for batch in found for each in split(bytes(batch))), None)
    except TooSlow:
        return None
