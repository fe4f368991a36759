"""What the benchmark migrates: one change, by an update and by a function."""

from datetime import UTC, datetime
from typing import Any

from whimbrel import Migration, migration

CHANGE = {
    "lastProcessed": "$$NOW",
    "processingCompleted": True,
    "data.processed": True,
    "data.processingTime": 1,
}
DECLARATIVE = Migration(name="declarative", collection="somemodels", mark="status", update=[{"$set": CHANGE}])


def change(model: dict[str, Any]) -> dict[str, Any]:
    """A value of its own for each document, and the sample's constant ones."""
    return {
        "$set": {
            "data.score2": model["data"]["score"] + model["_id"].binary[-1],
            "data.processed": True,
            "lastProcessed": datetime.now(UTC),
            "processingCompleted": True,
        }
    }


@migration(name="function", collection="somemodels", mark="status")
def function(model: dict[str, Any]) -> dict[str, Any]:
    """Guarded by the whole document."""
    return change(model)


@migration(name="function-reads", collection="somemodels", mark="status", reads=["data"])
def function_reads(model: dict[str, Any]) -> dict[str, Any]:
    """Guarded by the field it reads."""
    return change(model)
