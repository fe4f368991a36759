"""Claims queued batches: fair to the runs, and with few collisions among many claimers."""

import random
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from bson.binary import Binary
from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.read_concern import ReadConcern

UUID_SUBTYPE = 4
WIDEST = 256  # batches among which one is picked at random at most; the window of 64 slots
TURNS = 64  # sets of runs whose turn is remembered
NARROWER = 0.98  # the width's factor after each successful claim
_ORDER = [("run", 1), ("seq", 1)]
_COVERED = {"_id": 0, "run": 1, "seq": 1}


class Claims:
    """One process's claims.

    Runs take turns: a claim first tries the runs whose ids come after that of the last one served. Within a run the
    first queued batch is taken while there is no competition; a process that loses a batch to another one picks at random
    among more and more of the first batches, and among fewer again as claims succeed.
    """

    def __init__(self, batches: Collection[Any], lease: int, *, replica_set: bool) -> None:
        self._batches, self._lease = batches, lease
        untouched = {"$eq": [{"$ifNull": ["$untouched", 0]}, "$claims"]}
        began = {"$cond": [untouched, "$$CLUSTER_TIME", {"$ifNull": ["$began", None]}]}
        self._began = {"began": began} if replica_set else {}
        # Reads here only tell where to try, so they need not wait for the majority. The claim itself decides.
        self._glance = batches.with_options(read_concern=ReadConcern("local"))
        self._turns: dict[tuple[str, ...], str] = {}
        self._width = 1.0

    def any(
        self, runs: Sequence[str], worker: str, lsid: bytes, excluding: Sequence[str] = ()
    ) -> Mapping[str, Any] | None:
        """Claims a batch of the run whose turn it is, and returns its row; None where none of these runs has a queued one.

        `excluding`: tokens of batches that are not to be taken.
        """
        served = tuple(runs)
        turn = self._turns.get(served, "")
        for part in ([run for run in runs if run > turn], [run for run in runs if run <= turn]):
            row = self._first(part, worker, lsid, excluding) if part else None
            if row is not None:
                if len(self._turns) >= TURNS:
                    self._turns = {}
                self._turns[served] = row["run"]
                return row
        return None

    def one(self, runs: Sequence[str], token: str, worker: str, lsid: bytes) -> Mapping[str, Any] | None:
        """Claims this batch and returns its row; None where it is not queued, or of none of these runs."""
        queued_batch = {"_id": token, "status": "queued", "run": {"$in": list(runs)}}
        row: Mapping[str, Any] | None = self._batches.find_one_and_update(
            queued_batch, [{"$set": self._claimed(worker, lsid)}], return_document=ReturnDocument.AFTER
        )
        return row

    def _first(
        self, runs: Sequence[str], worker: str, lsid: bytes, excluding: Sequence[str]
    ) -> Mapping[str, Any] | None:
        while (token := self._pick(runs, excluding)) is not None:
            row = self.one(runs, token, worker, lsid)
            if row is not None:
                self._width = max(1.0, self._width * NARROWER)
                return row
            self._width = min(WIDEST, self._width * 2)
        return None

    def _pick(self, runs: Sequence[str], excluding: Sequence[str]) -> str | None:
        """Picks a queued batch, at random among the first `self._width` of these runs."""
        queued: dict[str, Any] = {"status": "queued", "run": {"$in": list(runs)}}
        if excluding:
            queued["_id"] = {"$nin": list(excluding)}
        offset = random.randrange(int(self._width))  # noqa: S311  spreads claims, protects nothing
        for offset_tried in (offset, 0) if offset else (0,):
            for row in self._glance.find(queued, _COVERED).sort(_ORDER).skip(offset_tried).limit(1):
                return f"{row['run']}.{row['seq']}"
        return None

    def _claimed(self, worker: str, lsid: bytes) -> dict[str, Any]:
        return {
            "status": "running", "owner": secrets.token_hex(8), "worker": {"$literal": worker},
            "lsid": {"$literal": Binary(lsid, UUID_SUBTYPE)}, "claims": {"$add": ["$claims", 1]},
            "claimedAt": "$$NOW", "leaseUntil": {"$add": ["$$NOW", self._lease]}, **self._began,
        }  # fmt: skip
