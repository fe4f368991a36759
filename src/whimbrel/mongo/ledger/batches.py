"""Stores batches. Every later write to a claimed row is conditional on its owner, a random nonce (hole H3)."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from bson.timestamp import Timestamp
from pymongo import MongoClient, ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError
from pymongo.write_concern import WriteConcern

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batch_progress import Progress
from whimbrel.domain.runs.batches import SOLO_AFTER, Batch
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.sizing import BatchWork
from whimbrel.domain.runs.verification import MarkTally
from whimbrel.errors import LeaseLost, Refused, Systemic
from whimbrel.mongo.driver_errors import DUPLICATE_KEY, translated
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.batch_reads import LAST_KEYS, BatchReads
from whimbrel.mongo.ledger.chunk_time_rows import chunk_times_row
from whimbrel.mongo.ledger.claims import Claims
from whimbrel.mongo.ledger.merged_batches import MergedBatches
from whimbrel.mongo.ledger.retention import Remains
from whimbrel.mongo.ledger.rows import (
    batch_of,
    batch_row,
    before_row,
    counts_row,
    progress_row,
    tally_row,
    work_row,
)
from whimbrel.mongo.unanswered_statements import end_sessions, still_at_work

# Seconds to wait for the statements of lost batches, which one long document can delay. Then the batch stays as it is
# until its lease and the grace are over, or until the next look.
DEAD_WORKER_PATIENCE, SWEEP_PATIENCE = 2.0, 0.3
TOGETHER = 100  # lost batches whose sessions are ended together


# For notes of a batch's progress. A failover or a crash may lose one: then less is known than was done.
LIGHT = WriteConcern(1, j=False)


class MongoBatches(BatchReads):
    """Implements `whimbrel.ports.Batches`."""

    def __init__(
        self,
        client: MongoClient[Any],
        collection: Collection[Any],
        times: Times,
        batch_failures: BatchFailureCounts,
        remains: Remains,
        *,
        replica_set: bool,
    ) -> None:
        super().__init__(collection, remains, int(times.grace * 1000))
        self._client, self._batch_failures = client, batch_failures
        self._light = collection.with_options(write_concern=LIGHT)
        self._lease = int(times.lease * 1000)
        self._claims = Claims(collection, self._lease, replica_set=replica_set)
        self._merged = MergedBatches(client, collection)

    def add(self, batches: Sequence[Batch]) -> int:
        if not batches:
            return 0
        with translated():
            try:
                return len(
                    self._batches.insert_many(
                        [batch_row(batch) for batch in batches], ordered=True
                    ).inserted_ids
                )
            except BulkWriteError as error:
                if any(write_error["code"] != DUPLICATE_KEY for write_error in error.details["writeErrors"]):
                    raise
                return int(error.details["nInserted"])

    def claim(
        self,
        runs: Sequence[str],
        *,
        worker: str,
        lsid: bytes,
        token: str | None = None,
        excluding: Sequence[str] = (),
    ) -> Batch | None:
        if not runs:
            return None
        with translated():
            if token is None:
                row = self._claims.any(runs, worker, lsid, excluding)
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
            result = self._light.update_one(
                {"_id": batch.token, "owner": batch.owner, "status": "running"}, {"$set": fields}
            )
        if not result.matched_count:
            raise LeaseLost(f"Batch {batch.token} was taken over.")

    def suspect(self, batch: Batch, key: Key | None, progress: Progress) -> None:
        self._update_own(batch, {"suspect": key.document if key else None, **progress_row(progress)})

    def keep_before(self, batch: Batch, before: Mapping[int, int]) -> None:
        self._update_own(batch, {"before": before_row(before)})

    def settle(
        self,
        batch: Batch,
        counts: Counts,
        *,
        inferred: bool = False,
        progress: Progress | None = None,
        tally: MarkTally | None = None,
        left: Mapping[str, int] | None = None,
        work: BatchWork | None = None,
        chunk_times: ChunkTimes | None = None,
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
        if work is not None:
            fields["work"] = work_row(work)
        if chunk_times is not None:
            fields["chunkTimes"] = chunk_times_row(chunk_times)
        with translated():
            row = self._batches.find_one_and_update(
                {"_id": batch.token, "owner": batch.owner},
                {"$set": fields, "$currentDate": {"settledAt": True}},
                projection={"failing.n": 1},
            )
            if row is None:
                raise LeaseLost(f"Batch {batch.token} was taken over.")
            if row.get("failing"):
                self._batch_failures.count([batch.token])

    def _update_own(self, batch: Batch, fields: dict[str, Any]) -> None:
        with translated():
            result = self._batches.update_one({"_id": batch.token, "owner": batch.owner}, {"$set": fields})
        if not result.matched_count:
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
            lost_rows, taken_over = self._batches.find(lost, LAST_KEYS), list[Batch]()
            while rows := list(islice(lost_rows, TOGETHER)):
                busy = self._sessions_at_work({bytes(row["lsid"]) for row in rows}, worker)
                taken_over += [
                    batch_of(row)
                    for row in rows
                    if bytes(row["lsid"]) not in busy
                    and self._requeue(row["_id"], row["owner"], row["leaseUntil"])
                ]
        return taken_over

    def _sessions_at_work(self, lsids: set[bytes], worker: str | None) -> set[bytes]:
        """Returns the sessions whose statements may still change documents after they were told to end (hole H13)."""
        patience = SWEEP_PATIENCE if worker is None else DEAD_WORKER_PATIENCE
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
        lost_claim = {"_id": batch_id, "owner": owner, "leaseUntil": lease_until, "status": "running"}
        return self._batches.update_one(lost_claim, [{"$set": fields}]).modified_count == 1

    def merge(self, run_id: str, leg: int, *, through: int) -> None:
        with translated():
            self._merged.merge(run_id, leg, through)

    def cancel(self, batch: Batch, counts: Counts, *, inferred: bool) -> None:
        with translated():
            self._batches.update_one(
                {"_id": batch.token, "status": "queued"},
                {
                    "$set": {"status": "cancelled", "counts": counts_row(counts), "inferred": inferred},
                    "$currentDate": {"settledAt": True},
                },
            )
            self._batch_failures.count([batch.token])

    def withdraw(self, run_id: str, limit: int) -> int:
        queued = {"status": "queued", "run": run_id}
        with translated():
            rows = self._batches.find(queued, {"claims": 1}).sort("seq", 1).limit(limit)
            untouched = [row["_id"] for row in rows if not row["claims"]]
            cancelled = self._batches.update_many(
                {"_id": {"$in": untouched}, "status": "queued", "claims": 0},
                {"$set": {"status": "cancelled"}, "$currentDate": {"settledAt": True}},
            )
        return cancelled.modified_count
