"""Batches. Every later write to a claimed row is conditional on its owner, a random nonce (hole H3)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bson.timestamp import Timestamp
from pymongo import MongoClient, ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError
from pymongo.write_concern import WriteConcern

from whimbrel.domain.batches import SOLO_AFTER, Batch, Outline
from whimbrel.domain.progress import Progress
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Counts
from whimbrel.domain.states import BatchStatus
from whimbrel.domain.times import Times
from whimbrel.domain.verification import Tally
from whimbrel.errors import LeaseLost, Refused, Systemic
from whimbrel.mongo.codec import (
    ASCENDING,
    OUTLINE,
    batch_of,
    batch_row,
    before_row,
    counts_of,
    counts_row,
    outline_of,
    progress_row,
    tally_row,
)
from whimbrel.mongo.errors import DUPLICATE_KEY, translated
from whimbrel.mongo.ledger.claims import Claims
from whimbrel.mongo.ledger.retention import Remains
from whimbrel.mongo.ledger.tallies import Tallies
from whimbrel.mongo.unanswered import end_sessions, still_at_work

# Seconds that lost batches are waited for whose statements do not end at once: one long document holds them up. After
# that the batch stays as it is, and is looked at again when its lease and the grace are over, or at the next look.
BURIAL_PATIENCE, SWEEP_PATIENCE = 2.0, 0.3


# Of a note how far a batch is. A failover or a crash may take it back: then less is known than was done.
LIGHT = WriteConcern(1, j=False)


class MongoBatches:
    """See `whimbrel.ports.Batches`."""

    def __init__(
        self,
        client: MongoClient[Any],
        collection: Collection[Any],
        times: Times,
        tallies: Tallies,
        remains: Remains,
        *,
        replica_set: bool,
    ) -> None:
        self._remains = remains
        self._client, self._batches, self._tallies = client, collection, tallies
        self._light = collection.with_options(write_concern=LIGHT)
        self._lease, self._grace = int(times.lease * 1000), int(times.grace * 1000)
        self._claims = Claims(collection, self._lease, replica_set=replica_set)

    def create_indexes(self) -> None:
        self._batches.create_index([("run", 1), ("seq", 1)], unique=True)
        self._batches.create_index([("status", 1), ("run", 1), ("seq", 1), ("retry", 1)])
        self._batches.create_index([("run", 1), ("leg", 1), ("seq", 1)])
        self._batches.create_index([("run", 1), ("settledAt", 1)])
        self._batches.create_index([("settledAt", 1)])

    def add(self, batches: Sequence[Batch]) -> int:
        if not batches:
            return 0
        with translated():
            try:
                return len(
                    self._batches.insert_many(
                        [batch_row(each) for each in batches], ordered=True
                    ).inserted_ids
                )
            except BulkWriteError as error:
                if any(each["code"] != DUPLICATE_KEY for each in error.details["writeErrors"]):
                    raise
                return int(error.details["nInserted"])

    def last(self, run_id: str) -> Batch | None:
        with translated():
            row = self._batches.find_one({"run": run_id}, sort=[("seq", -1)])
        return batch_of(row) if row else None

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
            query[f"left.{left}"] = {"$gt": 0}
        if statuses is not None:
            query["status"] = {"$in": [str(status) for status in statuses]}
        with translated():
            return [batch_of(row) for row in self._batches.find(query).sort("seq", 1).limit(limit)]

    def outlines(self, run_id: str, *, after: int, limit: int, bounds: bool = False) -> Sequence[Outline]:
        fields = OUTLINE | ({"ascending": ASCENDING} if bounds else {})
        with translated():
            found = self._batches.find({"run": run_id, "seq": {"$gt": after}}, fields)
            return [outline_of(row) for row in found.sort("seq", 1).limit(limit)]

    def named(self, run_id: str, *, after: int, limit: int) -> Sequence[Batch]:
        query = {"run": run_id, "seq": {"$gt": after}, "ids": {"$type": "array"}}
        with translated():
            return [batch_of(row) for row in self._batches.find(query).sort("seq", 1).limit(limit)]

    def count(self, run_id: str, statuses: Iterable[BatchStatus]) -> int:
        with translated():
            return self._batches.count_documents(
                {"run": run_id, "status": {"$in": [str(status) for status in statuses]}}
            )

    def end(self, run_id: str, leg: int) -> Key | None:
        query = {"run": run_id, "leg": leg, "cuts.0": {"$exists": True}}
        with translated():
            row = self._batches.find_one(query, sort=[("seq", -1)])
        return batch_of(row).hi if row else None

    def queued(self, runs: Sequence[str]) -> int:
        with translated():
            return self._batches.count_documents({"status": "queued", "run": {"$in": list(runs)}})

    def get(self, token: str) -> Batch | None:
        with translated():
            row = self._batches.find_one({"_id": token})
        return batch_of(row) if row else None

    def claim(
        self,
        runs: Sequence[str],
        *,
        worker: str,
        lsid: bytes,
        token: str | None = None,
        aside: Sequence[str] = (),
    ) -> Batch | None:
        if not runs:
            return None
        with translated():
            if token is None:
                row = self._claims.any(runs, worker, lsid, aside)
            else:
                row = self._claims.one(runs, token, worker, lsid)
        return batch_of(row) if row else None

    def renew(self, batch: Batch) -> datetime:
        with translated():
            row = self._batches.find_one_and_update(
                {"_id": batch.token, "owner": batch.owner, "status": "running"},
                [{"$set": {"leaseUntil": {"$add": ["$$NOW", self._lease]}}}],
                projection={"leaseUntil": 1}, return_document=ReturnDocument.AFTER,
            )  # fmt: skip
        if row is None:
            raise LeaseLost(f"Batch {batch.token} was taken over.")
        until: datetime = row["leaseUntil"]
        return until

    def note(self, batch: Batch, progress: Progress, *, since: Timestamp | None = None) -> None:
        fields = progress_row(progress) | ({} if since is None else {"began": since})
        with translated():
            found = self._light.update_one(
                {"_id": batch.token, "owner": batch.owner, "status": "running"}, {"$set": fields}
            )
        if not found.matched_count:
            raise LeaseLost(f"Batch {batch.token} was taken over.")

    def suspect(self, batch: Batch, key: Key | None, progress: Progress) -> None:
        self._own(batch, {"suspect": key.document if key else None, **progress_row(progress)})

    def keep_before(self, batch: Batch, before: Mapping[int, int]) -> None:
        self._own(batch, {"before": before_row(before)})

    def settle(
        self,
        batch: Batch,
        counts: Counts,
        *,
        inferred: bool = False,
        progress: Progress | None = None,
        tally: Tally | None = None,
        left: Mapping[str, int] | None = None,
    ) -> None:
        fields: dict[str, Any] = {
            **({} if progress is None else progress_row(progress)),
            "status": "done",
            "counts": counts_row(counts),
            "inferred": inferred,
            "suspect": None,
        }
        if left is not None:
            fields["left"] = dict(left)
        if tally is not None:
            fields["tally"] = tally_row(tally)
        with translated():
            found = self._batches.find_one_and_update(
                {"_id": batch.token, "owner": batch.owner},
                {"$set": fields, "$currentDate": {"settledAt": True}},
                projection={"failing.n": 1},
            )
            if found is None:
                raise LeaseLost(f"Batch {batch.token} was taken over.")
            if found.get("failing"):
                self._tallies.keep([batch.token])

    def _own(self, batch: Batch, fields: dict[str, Any]) -> None:
        with translated():
            found = self._batches.update_one({"_id": batch.token, "owner": batch.owner}, {"$set": fields})
        if not found.matched_count:
            raise LeaseLost(f"Batch {batch.token} was taken over.")

    def release(self, batch: Batch, *, progress: Progress | None = None, untouched: bool = False) -> None:
        fields: dict[str, Any] = {"status": "queued", "owner": None, "leaseUntil": None, "suspect": None}
        if progress is not None:
            fields |= progress_row(progress)
        if untouched:
            fields["untouched"] = batch.claims
        with translated():
            self._batches.update_one(
                {"_id": batch.token, "owner": batch.owner, "status": "running"}, {"$set": fields}
            )

    def take_over(self, *, worker: str | None = None) -> Sequence[Batch]:
        lost: dict[str, Any] = {"status": "running"}
        if worker is None:
            lost["$expr"] = {"$lt": ["$leaseUntil", {"$subtract": ["$$NOW", self._grace]}]}
        else:
            lost["worker"] = worker
        with translated():
            rows = list(self._batches.find(lost).limit(1000))
            busy = self._busy({bytes(row["lsid"]) for row in rows}, worker) if rows else set()
            return [
                batch_of(row)
                for row in rows
                if bytes(row["lsid"]) not in busy
                and self._requeue(row["_id"], row["owner"], row["leaseUntil"])
            ]

    def _busy(self, lsids: set[bytes], worker: str | None) -> set[bytes]:
        """Whose statements may still change documents after they were told to end (hole H13)."""
        patience = SWEEP_PATIENCE if worker is None else BURIAL_PATIENCE
        try:
            end_sessions(self._client, lsids)
            return still_at_work(self._client, lsids, worker=worker, patience=patience)
        except (Refused, Systemic):  # this user may not ask: the lease and its grace must be over
            return set() if worker is None else lsids

    def _requeue(self, batch_id: str, owner: str, lease_until: datetime) -> bool:
        takeovers = {"$add": ["$takeovers", 1]}
        fields = {
            "status": "queued", "owner": None, "leaseUntil": None, "takeovers": takeovers,
            "solo": {"$or": ["$solo", {"$gte": [takeovers, SOLO_AFTER]}]},
        }  # fmt: skip
        held = {"_id": batch_id, "owner": owner, "leaseUntil": lease_until, "status": "running"}
        return self._batches.update_one(held, [{"$set": fields}]).modified_count == 1

    def cancel(self, batch: Batch, counts: Counts, *, inferred: bool) -> None:
        with translated():
            self._batches.update_one(
                {"_id": batch.token, "status": "queued"},
                {
                    "$set": {"status": "cancelled", "counts": counts_row(counts), "inferred": inferred},
                    "$currentDate": {"settledAt": True},
                },
            )
            self._tallies.keep([batch.token])

    def after(self, run_id: str, seq: int) -> tuple[Counts, int, int]:
        def settled(what: Any) -> dict[str, Any]:
            return {"$sum": {"$cond": [{"$in": ["$status", ["done", "cancelled"]]}, what, 0]}}

        counts = {name: settled(f"$counts.{name}") for name in counts_row(Counts())}
        pipeline: Sequence[Mapping[str, Any]] = [
            {"$match": {"run": run_id, "seq": {"$gt": seq}}},
            {"$group": {"_id": None, "settled": settled(1), "last": {"$max": "$seq"}, **counts}},
        ]
        with translated():
            found = list(self._batches.aggregate(pipeline))
        return (
            (counts_of(found[0]), int(found[0]["settled"]), int(found[0]["last"]))
            if found
            else (Counts(), 0, 0)
        )

    def recent(self, run_id: str, seconds: float) -> tuple[int, float]:
        since = {"$expr": {"$gte": ["$settledAt", {"$subtract": ["$$NOW", int(seconds * 1000)]}]}}
        total = {"$sum": {"$add": ["$counts.changed", "$counts.unchanged", "$counts.skipped"]}}
        span = {"$dateDiff": {"startDate": "$first", "endDate": "$$NOW", "unit": "millisecond"}}
        with translated():
            found = list(
                self._batches.aggregate(
                    [
                        {"$match": {"run": run_id, "settledAt": {"$type": "date"}, **since}},
                        {"$group": {"_id": None, "documents": total, "first": {"$min": "$claimedAt"}}},
                        {"$project": {"documents": 1, "span": span}},
                    ]
                )
            )
        if not found:
            return 0, seconds
        return int(found[0]["documents"]), max(found[0]["span"], 1) / 1000

    def waiting(self, run_id: str, limit: int) -> Sequence[str]:
        queued = {"status": "queued", "run": run_id}
        with translated():
            found = self._batches.find(queued, {"_id": 0, "seq": 1}).sort("seq", 1).limit(limit)
            return [f"{run_id}.{row['seq']}" for row in found]

    def open_counts(self, runs: Sequence[str]) -> Mapping[tuple[str, bool, BatchStatus], int]:
        kind = {"run": "$run", "retry": "$retry", "status": "$status"}
        counted = {"$group": {"_id": kind, "n": {"$sum": 1}}}
        found: dict[tuple[str, bool, BatchStatus], int] = {}
        with translated():
            for open_ in ({"status": "queued", "run": {"$in": list(runs)}}, {"status": "running"}):
                for row in self._batches.aggregate([{"$match": open_}, counted]):
                    of = row["_id"]
                    key = of["run"], bool(of.get("retry")), BatchStatus(of["status"])
                    found[key] = found.get(key, 0) + int(row["n"])
        return found

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
            known = {row["_id"] for row in rows}
            known |= self._remains.known(token for token in tokens if token not in known)
        return known, {row["_id"] for row in rows if row["alive"]}
