"""Documents that bear a mark of the run and may have come after its last look: copies that an application has made, or moved."""

from bson import ObjectId

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Range
from whimbrel.ports import Examiner, Marked


def came_since(
    examiner: Examiner,
    where: Range,
    path: str,
    marked: Marked,
    *,
    born: ObjectId,
    before: ObjectId,
    bound: Key | None,
) -> tuple[int, int]:
    """Of documents with one mark: how many came after the run's last look for certain, and of how many more their ids do not tell.

    `born`, `before`: ids from the first on were made after that look, those below the second before the run began. `bound`: the run
    has looked at nothing behind it.
    """
    low, high = marked.low.value, marked.high.value
    dated = isinstance(low, ObjectId) and isinstance(high, ObjectId)
    if dated and high < before:
        return 0, 0
    if dated and low >= born:
        return marked.count, 0
    behind = 0
    if where.hi is None and bound is not None:
        behind = examiner.count(where, {path: marked.value, "$expr": {"$gt": ["$_id", bound.literal()]}})
    return behind, marked.count - behind
