"""Reads batches from the ledger; changes no row."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch, BatchOutline, BatchPointer, BatchSums
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.sizing import BatchWork
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.mongo.collection_identity import identity_of
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.retention import Remains
from whimbrel.mongo.ledger.rows import (
    ASCENDING,
    OUTLINE,
    batch_of,
    counts_of,
    counts_row,
    outline_of,
    work_of,
)

LAST_KEYS: Mapping[str, Any] = {"cuts": {"$slice": -1}, "ids": {"$slice": -1}}
RANGED: Mapping[str, Any] = {"cuts.0": {"$exists": True}}
LEAVING: Mapping[str, Mapping[str, Any]] = {
    status: {f"left.{status}": {"$gt": 0}} for status in ("failed", "pending")
}


class BatchReads:
    """Implements the reads of `whimbrel.ports.Batches`. `grace`: milliseconds after a lease in which its batch counts as held."""

    def __init__(self, collection: Collection[Any], remains: Remains, grace: int) -> None:
        self._batches, self._remains, self._grace = collection, remains, grace
        self._majority = collection.database.with_options(
            codec_options=collection.codec_options, read_concern=collection.read_concern
        )

    def last(self, run_id: str) -> Batch | None:
        with translated():
            row = self._batches.find_one({"run": run_id}, LAST_KEYS, sort=[("seq", -1)])
        return batch_of(row) if row else None

    def work(self, run_id: str, leg: int, limit: int) -> Sequence[BatchWork]:
        fields = {"_id": 0, "leg": 1, "work": 1}
        with translated():
            rows = self._batches.find({"run": run_id}, fields).sort("settledAt", -1).limit(limit)
            return [work_of(row["work"]) for row in rows if row["leg"] == leg and row.get("work")]

    def last_seq(self, run_id: str) -> int:
        with translated():
            row = self._batches.find_one({"run": run_id}, {"_id": 0, "seq": 1}, sort=[("seq", -1)])
        return int(row["seq"]) if row else 0

    def list(
        self,
        run_id: str,
        *,
        after: int = -1,
        statuses: Iterable[BatchStatus] | None = None,
        leg: int | None = None,
        left: str | None = None,
        limit: int = 1000,
    ) -> list[Batch]:
        query: dict[str, Any] = {"run": run_id, "seq": {"$gt": after}}
        if leg is not None:
            query["leg"] = leg
        if left is not None:
            query |= LEAVING[left]
        if statuses is not None:
            query["status"] = {"$in": [str(status) for status in statuses]}
        with translated():
            return [batch_of(row) for row in self._batches.find(query).sort("seq", 1).limit(limit)]

    def outlines(
        self, run_id: str, *, after: int, limit: int, bounds: bool = False
    ) -> Sequence[BatchOutline]:
        fields = OUTLINE | ({"ascending": ASCENDING} if bounds else {})
        with translated():
            rows = self._batches.find({"run": run_id, "seq": {"$gt": after}}, fields)
            return [outline_of(row) for row in rows.sort("seq", 1).limit(limit)]

    def named(self, run_id: str, *, after: int, limit: int) -> Sequence[Batch]:
        query = {"run": run_id, "seq": {"$gt": after}, "ids": {"$type": "array"}}
        with translated():
            return [batch_of(row) for row in self._batches.find(query).sort("seq", 1).limit(limit)]

    def count(self, run_id: str, statuses: Iterable[BatchStatus], *, most: int | None = None) -> int:
        query = {"run": run_id, "status": {"$in": [str(status) for status in statuses]}}
        limit: dict[str, Any] = {} if most is None else {"limit": most}
        with translated():
            return self._batches.count_documents(query, **limit)

    def begun(self, run_id: str) -> int:
        begun = {"$or": [{"status": "running"}, {"status": "queued", "claims": {"$gt": 0}}]}
        with translated():
            return self._batches.count_documents({"run": run_id, **begun})

    def uuid(self) -> bytes | None:
        return identity_of(self._batches.database, self._batches.name).uuid

    def open_through(self, run_id: str, seq: int) -> bool:
        query = {"run": run_id, "status": {"$in": ["queued", "running"]}, "seq": {"$lte": seq}}
        with translated():
            return self._batches.find_one(query, {"_id": 1}) is not None

    def end(self, run_id: str, leg: int) -> Key | None:
        query = {"run": run_id, "leg": leg, **RANGED}
        with translated():
            row = self._batches.find_one(query, LAST_KEYS, sort=[("seq", -1)])
        return batch_of(row).hi if row else None

    def queued(self, runs: Sequence[str], *, most: int | None = None) -> int:
        query = {"status": "queued", "run": {"$in": list(runs)}}
        limit: dict[str, Any] = {} if most is None else {"limit": most}
        with translated():
            return self._batches.count_documents(query, **limit)

    def get(self, token: str) -> Batch | None:
        with translated():
            row = self._batches.find_one({"_id": token})
        return batch_of(row) if row else None

    def after(self, run_id: str, seq: int) -> BatchSums:
        return self.after_each({run_id: seq}).get(run_id, BatchSums())

    def after_each(self, folded: Mapping[str, int]) -> Mapping[str, BatchSums]:
        def settled(expression: Any) -> dict[str, Any]:
            return {"$sum": {"$cond": [{"$in": ["$status", ["done", "cancelled"]]}, expression, 0]}}

        open_ = {"$and": [{"$in": ["$status", ["queued", "running"]]}, {"$ne": ["$retry", True]}]}
        names = list(counts_row(Counts()))
        sums: dict[str, Any] = {name: settled(f"$counts.{name}") for name in names}
        for position, name in enumerate(names, 1):
            sums[f"begun_{name}"] = {"$sum": {"$cond": [open_, _sum_of_stretches(position), 0]}}
        worked_on = {"$and": [{"$eq": ["$status", "running"]}, {"$ne": ["$retry", True]}]}
        sums["in_hand"] = {"$sum": {"$cond": [worked_on, "$estimated", 0]}}
        sums |= {"settled": settled(1), "last": {"$max": "$seq"}, "now": {"$max": "$$NOW"}}
        sums_of_run = {
            "from": self._batches.name, "localField": "run", "foreignField": "run", "let": {"through": "$through"},
            "pipeline": [{"$match": {"$expr": {"$gt": ["$seq", "$$through"]}}}, {"$group": {"_id": None, **sums}}],
            "as": "found",
        }  # fmt: skip
        requested = [{"run": run, "through": seq} for run, seq in folded.items()]
        if not requested:
            return {}
        stages: Sequence[Mapping[str, Any]] = [
            {"$documents": requested}, {"$lookup": sums_of_run}, {"$unwind": "$found"},
        ]  # fmt: skip
        with translated():
            rows = self._majority.aggregate(stages, batchSize=len(requested) + 1)
            return {row["run"]: _batch_sums(row["found"], names) for row in rows}

    def cancelled(self, runs: Sequence[str]) -> Mapping[str, int]:
        if not runs:
            return {}
        pipeline: Sequence[Mapping[str, Any]] = [
            {"$match": {"status": "cancelled", "run": {"$in": list(runs)}}},
            {"$group": {"_id": "$run", "n": {"$sum": 1}}},
        ]
        with translated():
            rows = self._batches.aggregate(pipeline, batchSize=len(runs) + 1)
            return {row["_id"]: int(row["n"]) for row in rows}

    def waiting(self, run_id: str, limit: int, *, after: int = -1) -> Sequence[BatchPointer]:
        queued = {"status": "queued", "run": run_id, "seq": {"$gt": after}}
        with translated():
            rows = self._batches.find(queued, {"_id": 0, "seq": 1, "retry": 1}).sort("seq", 1).limit(limit)
            return [BatchPointer(run_id, row["seq"], bool(row.get("retry"))) for row in rows]

    def open_counts(self, runs: Sequence[str]) -> Mapping[tuple[str, bool, BatchStatus], int]:
        kind = {"run": "$run", "retry": "$retry", "status": "$status"}
        counted = {"$group": {"_id": kind, "n": {"$sum": 1}}}
        counts: dict[tuple[str, bool, BatchStatus], int] = {}
        with translated():
            for open_ in ({"status": "queued", "run": {"$in": list(runs)}}, {"status": "running"}):
                for row in self._batches.aggregate([{"$match": open_}, counted]):
                    group = row["_id"]
                    key = group["run"], bool(group.get("retry")), BatchStatus(group["status"])
                    counts[key] = counts.get(key, 0) + int(row["n"])
        return counts

    def any_retried(self, run_id: str) -> bool:
        retried = {"run": run_id, "retry": True, "status": {"$in": ["queued", "running"]}}
        with translated():
            return self._batches.find_one(retried, {"_id": 1}) is not None

    def settled(self, seconds: float) -> int:
        since = {"$gte": ["$settledAt", {"$subtract": ["$$NOW", int(seconds * 1000)]}]}
        recent = {"settledAt": {"$type": "date"}, "$expr": since}
        with translated():
            return self._batches.count_documents(recent)

    def orphaned(self) -> Sequence[str]:
        pipeline: Sequence[Mapping[str, Any]] = [
            {"$match": {"status": {"$in": ["queued", "running"]}}},
            {"$group": {"_id": "$run"}},
            {"$lookup": {"from": "whimbrel_runs", "localField": "_id", "foreignField": "_id", "as": "rows"}},
            {"$match": {"rows": []}},
            {"$sort": {"_id": 1}},
        ]
        with translated():
            return [row["_id"] for row in self._batches.aggregate(pipeline)]

    def live(self, tokens: Sequence[str]) -> tuple[set[str], set[str]]:
        alive = {
            "$and": [
                {"$eq": ["$status", "running"]},
                {"$gt": ["$leaseUntil", {"$subtract": ["$$NOW", self._grace]}]},
            ]
        }
        with translated():
            rows = list(
                self._batches.aggregate(
                    [{"$match": {"_id": {"$in": list(tokens)}}}, {"$project": {"alive": alive}}]
                )
            )
            known_tokens = {row["_id"] for row in rows}
            known_tokens |= self._remains.known(token for token in tokens if token not in known_tokens)
        return known_tokens, {row["_id"] for row in rows if row["alive"]}


def _sum_of_stretches(position: int) -> dict[str, Any]:
    """Returns an expression for the sum of the numbers at this position in the stretches of a batch's progress."""
    numbers = {
        "$map": {"input": {"$ifNull": ["$progress", []]}, "in": {"$arrayElemAt": ["$$this", position]}}
    }
    return {"$sum": numbers}


def _batch_sums(row: Mapping[str, Any], names: Sequence[str]) -> BatchSums:
    in_progress = counts_of({name: row[f"begun_{name}"] for name in names})
    return BatchSums(
        counts_of(row), int(row["settled"]), int(row["last"]), in_progress, row["now"], int(row["in_hand"])
    )
