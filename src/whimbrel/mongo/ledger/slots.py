"""Reads the batches that slots have in hand, without their keys: one row for each slot that works on the run."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.rows import Row, progress_of
from whimbrel.ports.slots import BatchInHand

WITHOUT_KEYS: Mapping[str, Any] = {
    "phase": 1, "worker": 1, "claimedAt": 1, "estimated": 1, "progress": 1, "at": 1, "retry": 1, "takeovers": 1,
    "n_cuts": {"$size": "$cuts"}, "n_ids": {"$size": {"$ifNull": ["$ids", []]}},
}  # fmt: skip


class MongoSlots:
    """Implements `whimbrel.ports.Slots`."""

    def __init__(self, batches: Collection[Any]) -> None:
        self._batches = batches

    def in_hand(self, run_id: str, limit: int) -> Sequence[BatchInHand]:
        stages: Sequence[Mapping[str, Any]] = [
            {"$match": {"status": "running", "run": run_id}}, {"$sort": {"seq": 1}}, {"$limit": limit}, {"$project": WITHOUT_KEYS},
        ]  # fmt: skip
        with translated():
            return [_in_hand_of(row) for row in self._batches.aggregate(stages, batchSize=limit + 1)]


def _in_hand_of(row: Row) -> BatchInHand:
    progress = progress_of(row)
    return BatchInHand(
        token=row["_id"], phase=row["phase"], worker=row.get("worker"), claimed_at=row.get("claimedAt"), estimated=row["estimated"],
        counts=progress.counts, failed=progress.failed, chunks=row["n_cuts"] or ceil(row["n_ids"] / CHUNK_DOCUMENTS),
        chunks_done=progress.chunks, retry=bool(row.get("retry")), takeovers=row["takeovers"],
    )  # fmt: skip
