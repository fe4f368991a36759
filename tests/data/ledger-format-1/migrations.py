"""The migrations of the runs in this dump."""

from typing import Any

from whimbrel import Migration, migration

declared = Migration(
    name="declared", collection="numbers", filter={"n": {"$gte": 0}}, update={"$inc": {"n": 1}}, undo=True
)


@migration(collection="things", max_attempts=2)
def function(thing: dict[str, Any]) -> Any:
    if thing["_id"] % 40 == 7:
        raise ValueError(f"no good: {thing['_id']}")
    return {"$set": {"double": thing["_id"] * 2}}


by_status = Migration(name="by-status", collection="jobs", mark="status", update=[{"$set": {"done": True}}])
by_filter = Migration(
    name="by-filter",
    collection="notes",
    mark="filter",
    filter={"seen": {"$exists": False}},
    update={"$set": {"seen": True}},
)
