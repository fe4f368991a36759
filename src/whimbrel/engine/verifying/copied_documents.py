"""Documents that bear a mark of the run and may have come after its last look: copies that an application has made.

Those behind what the run has looked at lie outside their batch's range, which tells enough.
"""

from bson import ObjectId

from whimbrel.ports import Marked


def came_since(marked: Marked, *, born: ObjectId, before: ObjectId) -> tuple[int, int]:
    """Of documents with one mark: how many came after the run's last look for certain, and of how many their ids do not tell.

    `born`, `before`: ids from the first on were made after that look, those below the second before the run began.
    """
    low, high = marked.low.value, marked.high.value
    if not (isinstance(low, ObjectId) and isinstance(high, ObjectId)):
        return 0, marked.count
    if high < before:
        return 0, 0
    return (marked.count, 0) if low >= born else (0, marked.count)
