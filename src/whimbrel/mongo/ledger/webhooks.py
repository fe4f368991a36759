"""Stores deliveries of webhooks, takes events out of the rows of runs, and notes since when a run makes no progress."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import ReturnDocument, UpdateOne
from pymongo.collection import Collection

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.run_cursor import RunPlace
from whimbrel.domain.webhooks.deliveries import (
    BROKEN_OFF,
    HOLD,
    MOST,
    REMOVED,
    TRIES,
    Delivery,
    DeliveryState,
    Reply,
    delay_after,
)
from whimbrel.domain.webhooks.events import RunEvent
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.run_events import UNSENT, WAITING_TO_BE_SENT, standstill_event, without_events
from whimbrel.mongo.ledger.run_rows import run_of
from whimbrel.ports.webhooks import DeliveryCounts, Unsent

SINCE, COUNTS = "since", "counts"  # rows that are no deliveries
EARLIER = 60_000  # milliseconds before the first process with webhooks from which on events are sent: it starts after its run was added
NEWEST = {"createdAt": -1, "_id": -1}
PENDING = {"state": "pending"}
OF_DELIVERIES = {"createdAt": {"$type": "date"}}
SOME = 1000  # rows removed at a time


class MongoWebhookRecords:
    """Implements `whimbrel.ports.webhooks.WebhookRecords`."""

    def __init__(self, deliveries: Collection[Any], runs: Collection[Any], batches: Collection[Any]) -> None:
        self._rows, self._runs, self._batches = deliveries, runs, batches

    # events

    def begin(self) -> tuple[datetime, datetime]:
        since = {"$ifNull": ["$at", {"$subtract": ["$$NOW", EARLIER]}]}
        with translated():
            row: Any = self._rows.find_one_and_update(
                {"_id": SINCE},
                [{"$set": {"at": since, "now": "$$NOW"}}],
                upsert=True,
                return_document=ReturnDocument.AFTER,
            )
        return row["at"], row["now"]

    def unsent(self, limit: int) -> Sequence[Unsent]:
        with translated():
            rows = list(self._runs.find(WAITING_TO_BE_SENT).limit(limit))
        return [Unsent(run_of(row), [_event_of(row["_id"], event) for event in row[UNSENT]]) for row in rows]

    def forget(self, run_id: str, number: int) -> None:
        with translated():
            self._runs.update_one({"_id": run_id}, without_events(number))

    # deliveries

    def add(self, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        with translated():
            self._rows.bulk_write([_insertion(delivery) for delivery in deliveries], ordered=False)
            failed = sum(delivery.state is DeliveryState.FAILED for delivery in deliveries)
            if failed:
                self._count(failed=failed)

    def claim(self, receiver: str) -> Delivery | None:
        held = {"$add": ["$$NOW", int(HOLD * 1000)]}
        due = {"$expr": {"$lte": ["$dueAt", "$$NOW"]}}
        with translated():
            row = self._rows.find_one_and_update(
                {**PENDING, "receiver": receiver, "tries": {"$lt": TRIES}, **due},
                [{"$set": {"tries": {"$add": ["$tries", 1]}, "dueAt": held}}],
                sort=[("dueAt", 1)], return_document=ReturnDocument.AFTER,
            )  # fmt: skip
            if row is not None:
                self._count(tries=1)
        return _delivery_of(row) if row else None

    def settle(self, delivery: Delivery, reply: Reply) -> None:
        sets: dict[str, Any] = {"status": reply.status, "problem": {"$literal": reply.problem}}
        ended = ""
        if reply.delivered or delivery.tries >= TRIES:
            ended = "delivered" if reply.delivered else "failed"
            sets |= {"state": ended, "endedAt": "$$NOW", "dueAt": None}
        else:
            sets["dueAt"] = {"$add": ["$$NOW", int(delay_after(delivery.tries) * 1000)]}
        this_try = {"_id": delivery.id, **PENDING, "tries": delivery.tries}
        with translated():
            settled = self._rows.update_one(this_try, [{"$set": sets}]).modified_count
            if settled and ended:
                self._count(**{ended: 1})

    def give_up(self, receivers: Sequence[str]) -> int:
        over = {"tries": {"$gte": TRIES}, "$expr": {"$lte": ["$dueAt", "$$NOW"]}}
        others = {"receiver": {"$nin": list(receivers)}}
        total = 0
        with translated():
            for condition, problem in ((over, BROKEN_OFF), (others, REMOVED)):
                sets = {"state": "failed", "problem": problem, "endedAt": "$$NOW", "dueAt": None}
                total += self._rows.update_many({**PENDING, **condition}, [{"$set": sets}]).modified_count
            if total:
                self._count(failed=total)
        return total

    def trim(self) -> int:
        with translated():
            first = list(self._rows.find(OF_DELIVERIES, {"createdAt": 1}).sort(NEWEST).skip(MOST).limit(1))
            if not first:
                return 0
            over = {"state": {"$ne": "pending"}}  # asked again below: somebody may send it again meanwhile
            older = {"createdAt": {"$lte": first[0]["createdAt"]}, **over}
            ids = [row["_id"] for row in self._rows.find(older, {"_id": 1}).sort("createdAt", 1).limit(SOME)]
            return self._rows.delete_many({"_id": {"$in": ids}, **over}).deleted_count

    def list(
        self,
        *,
        states: Sequence[DeliveryState] | None = None,
        after: RunPlace | None = None,
        limit: int = 100,
    ) -> Sequence[Delivery]:
        query: dict[str, Any] = dict(OF_DELIVERIES)
        if states is not None:
            query["state"] = {"$in": [str(state) for state in states]}
        if after is not None:
            query["createdAt"] = {"$lte": after.created_at}
            query["$or"] = [{"createdAt": {"$lt": after.created_at}}, {"_id": {"$lt": after.id}}]
        with translated():
            return [_delivery_of(row) for row in self._rows.find(query).sort(NEWEST).limit(limit)]

    def get(self, delivery_id: str) -> Delivery | None:
        with translated():
            row = self._rows.find_one({"_id": delivery_id, **OF_DELIVERIES})
        return _delivery_of(row) if row else None

    def send_again(self, delivery_id: str) -> Delivery | None:
        anew = {"state": "pending", "tries": 0, "dueAt": "$$NOW", "endedAt": None}
        with translated():
            row = self._rows.find_one_and_update(
                {"_id": delivery_id, "state": "failed", **OF_DELIVERIES}, [{"$set": anew}], return_document=ReturnDocument.AFTER
            )  # fmt: skip
        return _delivery_of(row) if row else None

    def counts(self) -> DeliveryCounts:
        with translated():
            row = self._rows.find_one({"_id": COUNTS}) or {}
            pending = self._rows.count_documents({**PENDING, "receiver": {"$gte": ""}})
        return DeliveryCounts(row.get("tries", 0), row.get("delivered", 0), row.get("failed", 0), pending)

    def _count(self, **numbers: int) -> None:
        self._rows.update_one({"_id": COUNTS}, {"$inc": numbers}, upsert=True)

    # progress

    def standstill(self, run_id: str, mark: str, *, waits: bool, patience: float) -> float:
        changed = {"$ne": ["$still.mark", {"$literal": mark}]}
        unseen = {"$subtract": ["$$NOW", {"$ifNull": ["$still.looked", "$$NOW"]}]}
        left_out = {"$or": [waits, {"$gt": [unseen, int(patience * 1000)]}]}
        since = {"$cond": [left_out, {"$add": ["$still.since", unseen]}, "$still.since"]}
        looked = {
            "mark": {"$literal": mark}, "since": {"$cond": [changed, "$$NOW", since]}, "looked": "$$NOW",
            "told": {"$and": [{"$not": changed}, "$still.told"]},
        }  # fmt: skip
        with translated():
            # The answer is stored in the row, as of `Runs.reserve`.
            row = self._runs.find_one_and_update(
                {"_id": run_id, "status": "running"},
                [{"$set": {"still": looked}}, {"$set": {"still.for": {"$subtract": ["$$NOW", "$still.since"]}}}],
                projection={"still.for": 1}, return_document=ReturnDocument.AFTER,
            )  # fmt: skip
        return float(row["still"]["for"]) / 1000 if row else 0.0

    def tell_standstill(self, run_id: str, mark: str, why: str) -> bool:
        untold = {"_id": run_id, "status": "running", "still.mark": mark, "still.told": {"$ne": True}}
        event = standstill_event(who="webhooks", why=why)
        with translated():
            return (
                self._runs.update_one(untold, [{"$set": {"still.told": True, **event}}]).modified_count == 1
            )

    def progress_marks(self, runs: Sequence[Run]) -> Mapping[str, str]:
        numbers = {"$sum": {"$map": {"input": {"$ifNull": ["$progress", []]}, "in": {"$sum": "$$this"}}}}
        pipeline: Sequence[Any] = [
            {"$match": {"status": {"$in": ["queued", "running"]}, "run": {"$in": [run.id for run in runs]}}},
            {"$group": {"_id": "$run", "open": {"$sum": 1}, "done": {"$sum": numbers}}},
        ]
        with translated():
            rows = {row["_id"]: (row["open"], row["done"]) for row in self._batches.aggregate(pipeline)}
        return {run.id: _mark(run, *rows.get(run.id, (0, 0))) for run in runs}


def _mark(run: Run, open_: int, done: int) -> str:
    """Returns what differs when a run has made progress, has been resumed, or looks at its ranges and proves something at its end."""
    looks = run.tiling.through, run.checked.through, run.working_since
    return ":".join(map(str, (run.leg, run.folded_through, run.planned, open_, done, *looks)))


def _insertion(delivery: Delivery) -> UpdateOne:
    ended = delivery.state is not DeliveryState.PENDING
    row = {
        "event": delivery.event, "type": delivery.type, "run": delivery.run, "receiver": delivery.receiver, "shown": delivery.shown,
        "body": delivery.body, "state": str(delivery.state), "tries": delivery.tries, "status": delivery.status, "problem": delivery.problem,
    }  # fmt: skip
    times = {"createdAt": "$$NOW", "dueAt": None if ended else "$$NOW", "endedAt": "$$NOW" if ended else None}
    exists = {"$ne": [{"$type": "$state"}, "missing"]}
    new = {"$mergeObjects": [{"_id": delivery.id}, {"$literal": row}, times]}
    return UpdateOne(
        {"_id": delivery.id}, [{"$replaceWith": {"$cond": [exists, "$$ROOT", new]}}], upsert=True
    )


def _event_of(run_id: str, row: Mapping[str, Any]) -> RunEvent:
    return RunEvent(
        run=run_id, number=row["n"], type=row["type"], at=row["at"], before=row["from"], after=row["to"], who=row["who"], why=row["why"]
    )  # fmt: skip


def _delivery_of(row: Mapping[str, Any]) -> Delivery:
    return Delivery(
        id=row["_id"], event=row["event"], type=row["type"], run=row["run"], receiver=row["receiver"], shown=row["shown"], body=row["body"],
        state=DeliveryState(row["state"]), tries=row["tries"], status=row["status"], problem=row["problem"], created_at=row["createdAt"],
        due_at=row["dueAt"], ended_at=row["endedAt"],
    )  # fmt: skip
