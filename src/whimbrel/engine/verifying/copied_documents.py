"""Counts documents that bear a mark of the run and may have been inserted after its last look: copies that an application has made.

Documents behind what the run has looked at lie outside their batch's range, which tells enough.
"""

from bson import ObjectId

from whimbrel.ports import Marked


def count_inserted_since(marked: Marked, *, born: ObjectId, before: ObjectId) -> tuple[int, int]:
    """Returns how many of the documents with one mark came after the run's last look for certain, and of how many the ids do not tell.

    `born`, `before`: ids from `born` on were made after that look, those below `before` before the run began.
    """
    low, high = marked.low.value, marked.high.value
    if not (isinstance(low, ObjectId) and isinstance(high, ObjectId)):
        return 0, marked.count
    if high < before:
        return 0, 0
    return (marked.count, 0) if low >= born else (0, marked.count)
