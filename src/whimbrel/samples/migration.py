"""The built-in sample migration `some-model`, for demonstrations and measurements."""

from whimbrel.domain.migrations.migration import Migration

COLLECTION = "somemodels"

_STARTED = {"$ifNull": ["$processingStartedAt", "$updatedAt"]}
_FROM_PROCESSING = {"$eq": ["$$phase", "processing"]}
_FROM_FAILED = {"$eq": ["$$phase", "failed"]}

SOME_MODEL = Migration(
    name="some-model",
    collection=COLLECTION,
    mark="status",
    adopt="all",
    update=[
        {
            "$set": {
                # $mergeObjects raises on data that is not an object; a $set of "data.processed" would silently replace it.
                "data": {
                    "$mergeObjects": [
                        "$data",
                        {
                            "processed": True,
                            "processingTime": {"$subtract": ["$$NOW", "$$claimed_at"]},
                        },
                    ]
                },
                "lastProcessed": "$$NOW",
                "processingCompleted": True,
                "processingDuration": {
                    "$cond": [
                        _FROM_PROCESSING,
                        {"$subtract": ["$$NOW", _STARTED]},
                        {"$ifNull": ["$processingDuration", "$$REMOVE"]},
                    ]
                },
                "retryCount": {
                    "$cond": [
                        _FROM_FAILED,
                        {"$add": [{"$ifNull": ["$retryCount", 0]}, 1]},
                        {"$ifNull": ["$retryCount", "$$REMOVE"]},
                    ]
                },
                "lastRetryAt": {"$cond": [_FROM_FAILED, "$$NOW", {"$ifNull": ["$lastRetryAt", "$$REMOVE"]}]},
            }
        }
    ],
)
