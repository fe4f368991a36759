"""What the benchmark migrates: the sample's change, by a function."""

from datetime import UTC, datetime
from typing import Any

from whimbrel import migration


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
