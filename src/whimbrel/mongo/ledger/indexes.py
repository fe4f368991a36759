"""The indexes of the ledger's collections, in one table."""

from collections.abc import Mapping, Sequence

from pymongo import IndexModel

from whimbrel.domain.webhooks.deliveries import KEEP_DAYS
from whimbrel.mongo.ledger.answers import DAY
from whimbrel.mongo.ledger.batch_reads import LEAVING, RANGED
from whimbrel.mongo.ledger.failure_search import BY_CAUSE
from whimbrel.mongo.ledger.failure_sums import KEPT
from whimbrel.mongo.ledger.merged_batches import MERGED
from whimbrel.mongo.ledger.run_events import WAITING_TO_BE_SENT
from whimbrel.mongo.ledger.run_lists import NEWEST
from whimbrel.mongo.ledger.webhooks import PENDING

BY_PLACE = [("run", 1), ("leg", 1), ("seq", 1)]

# By the collection's name without its prefix. One command a collection creates them: a server builds them together.
INDEXES: Mapping[str, Sequence[IndexModel]] = {
    "answers": [IndexModel("at", expireAfterSeconds=DAY)],
    "audit": [
        IndexModel([("run", 1), ("at", 1), ("_id", 1)]),
        IndexModel([("at", 1), ("_id", 1)]),
        IndexModel([("action", 1), ("at", 1), ("_id", 1)]),
        IndexModel([("by", 1), ("action", 1), ("at", 1), ("_id", 1)]),
    ],
    "batches": [
        IndexModel([("run", 1), ("seq", 1)], unique=True),
        IndexModel([("status", 1), ("run", 1), ("seq", 1), ("retry", 1)]),
        IndexModel(BY_PLACE),
        # For queries that find few rows among many: the last range of a leg, and batches that left documents to a phase.
        IndexModel(BY_PLACE, partialFilterExpression=RANGED, name="ranges"),
        *(
            IndexModel(BY_PLACE, partialFilterExpression=condition, name=f"left_{status}")
            for status, condition in LEAVING.items()
        ),
        IndexModel([("run", 1), ("settledAt", 1)]),
        IndexModel([("settledAt", 1)]),
        IndexModel(
            [("run", 1), ("seq", 1), ("failing.n", 1), ("failing.open", 1), ("failing.conflict", 1)],
            partialFilterExpression=KEPT,
            name="failing_in_order",
        ),
        IndexModel(
            [("worker", 1), ("failing.n", 1)], partialFilterExpression=KEPT, name="failing_of_a_worker"
        ),
        IndexModel([("run", 1), ("seq", 1), ("upTo", 1)], partialFilterExpression=MERGED, name="merged"),
    ],
    "blocks": [
        IndexModel([
            ("run", 1), ("marked", 1), ("block", 1), ("n", 1), ("open", 1), ("conflict", 1), ("batches", 1)
        ]),
        IndexModel([("marked", 1)], partialFilterExpression={"marked": True}),
    ],
    "causes": [IndexModel([("run", 1), ("group", 1)])],
    "failures": [
        IndexModel([("run", 1), ("key._id", 1)]),
        IndexModel([
            ("ns", 1), ("migration", 1), ("version", 1), ("state", 1), ("key._id", 1), ("run", 1)
        ]),
        IndexModel([("run", 1), ("state", 1), ("dueAt", 1)]),
        IndexModel(BY_CAUSE),
        IndexModel([("batch", 1), ("state", 1), ("outcome", 1), ("group", 1)]),
    ],
    "pruned": [
        IndexModel([("left", 1)], partialFilterExpression={"left": True}),
        # Runs over everything that completed: what their migrations depend on this after they were pruned.
        IndexModel(
            [("migration", 1), ("version", 1), ("ns", 1), ("createdAt", -1)], partialFilterExpression={"whole": True},
            name="completed",
        ),
    ],
    "known": [IndexModel([("run", 1)])],
    "runs": [
        IndexModel(
            [("ns", 1)], unique=True, partialFilterExpression={"active": True}, name="one_run_a_collection"
        ),
        IndexModel([("status", 1), ("createdAt", -1), ("_id", -1)]),
        IndexModel([("status", 1), ("ns", 1), ("createdAt", 1), ("_id", 1)]),
        IndexModel([("migration", 1), ("createdAt", -1), ("_id", -1)]),
        IndexModel([("of", 1), ("createdAt", -1)], partialFilterExpression={"of": {"$type": "string"}}),
        IndexModel([("createdAt", -1), ("_id", -1)]),
        IndexModel([("endedAt", 1), ("_id", 1)], partialFilterExpression={"endedAt": {"$type": "date"}}),
        IndexModel("endedAt", partialFilterExpression={"status": "failed"}, name="failed"),
        # What two processes may want to start at the same moment, and only one shall.
        IndexModel(
            [("startKey", 1)], unique=True, partialFilterExpression={"startKey": {"$type": "string"}}, name="started_once"
        ),
        IndexModel([("unsent.n", 1)], partialFilterExpression=WAITING_TO_BE_SENT),
        # Lists with filters: what is before the time is given by value, so that each page is read in its order.
        IndexModel([("kind", 1), ("status", 1), *NEWEST.items()]),
        IndexModel([("migration", 1), ("kind", 1), ("status", 1), *NEWEST.items()]),
        IndexModel([("ns", 1), ("kind", 1), ("status", 1), *NEWEST.items()]),
    ],
    "deliveries": [
        IndexModel([("createdAt", -1), ("_id", -1)]),
        IndexModel([("state", 1), ("createdAt", -1), ("_id", -1)]),
        IndexModel([("receiver", 1), ("dueAt", 1)], partialFilterExpression=PENDING),
        IndexModel("endedAt", expireAfterSeconds=KEEP_DAYS * DAY),
    ],
    "sessions": [IndexModel("expiresAt", expireAfterSeconds=0), IndexModel([("token", 1), ("expiresAt", -1)])],
}  # fmt: skip
