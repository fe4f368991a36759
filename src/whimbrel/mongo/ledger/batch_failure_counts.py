"""Keeps in each batch's row how many of its documents have an unresolved failure, and counts them again when they change.

Numbers are not incremented, which a crash could do twice or not at all. A process that is about to change rows of
failures first marks their batches (`n` is -1); the number of a marked batch is counted from its rows on every read. After the change
it marks them again, so that a count from before the change is not kept; then it counts the rows and keeps the
number, unless another process has marked the batch meanwhile. Sums of many batches are kept by block, in the same way (`failure_sums.py`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection

from whimbrel.domain.runs.batches import Batch
from whimbrel.mongo.ledger.failure_counts import (
    AT_ONCE,
    FailureTally,
    Look,
    counted,
    groups_rows,
    kept_and_counted,
    tally,
)
from whimbrel.mongo.ledger.failure_sums import KEPT, MARKED, FailureSums

ROWS = 20_000  # rows of failures that one statement changes, about
UNKNOWN = 1000  # rows assumed for a batch whose number is not known


class BatchFailureCounts:
    """Maintains the numbers of failures in the rows of batches."""

    def __init__(self, batches: Collection[Any], failures: Collection[Any], blocks: FailureSums) -> None:
        self._batches, self._failures, self._blocks = batches, failures, blocks

    def mark(self, tokens: Iterable[str]) -> None:
        """Marks batches whose rows of failures are about to change."""
        marked = {
            "$inc": {"failing.marks": 1},
            "$set": {"failing.n": MARKED, "failing.open": 0, "failing.conflict": 0},
        }
        for page in _pages(sorted(set(tokens))):
            self._batches.update_many({"_id": {"$in": page}}, marked)
            self._blocks.mark(page)  # after the batches: see `failure_sums`

    def failing(self, run_id: str) -> Iterator[list[str]]:
        """Yields the batches of a run with unresolved failures, in pages whose rows one statement may change."""
        page, rows = list[str](), 0
        failing = {"run": run_id, **KEPT}
        for row in self._batches.find(failing, {"_id": 0, "seq": 1, "failing.n": 1}).sort("seq", 1):
            number = row["failing"]["n"]
            if number:
                page.append(f"{run_id}.{row['seq']}")
                rows += UNKNOWN if number == MARKED else number
            if rows >= ROWS or len(page) == AT_ONCE:
                yield page
                page, rows = [], 0
        if page:
            yield page

    def keep(self, tokens: Iterable[str]) -> None:
        """Counts batches again whose rows have changed since they were marked."""
        for page in _pages(sorted(set(tokens))):
            marked = {"_id": {"$in": page}, "failing.n": MARKED}
            remarked = self._batches.update_many(marked, {"$inc": {"failing.marks": 1}})
            # Fewer: another process has kept a number, perhaps from rows before this change.
            if remarked.matched_count < len(page):
                self.mark(page)
            self.count(page)

    def count(self, tokens: Iterable[str]) -> None:
        """Counts marked batches again and keeps the numbers, except for batches being worked on, which are marked only once."""
        for page in _pages(sorted(set(tokens))):
            marked = {"_id": {"$in": page}, "failing.n": MARKED, "status": {"$ne": "running"}}
            marks = {
                row["_id"]: row["failing"]["marks"]
                for row in self._batches.find(marked, {"failing.marks": 1})
            }
            groups_by_batch = counted(self._failures, list(marks))
            changes = []
            for token, mark_count in marks.items():
                groups = groups_by_batch.get(token, {})
                sums = tally(groups)
                numbers = {"failing.n": sums.n, "failing.open": sums.open, "failing.conflict": sums.conflict}
                fields = {**numbers, "failing.groups": groups_rows(groups)}
                change = {"$set": fields} if groups else {"$unset": dict.fromkeys(fields, "")}
                same = {"_id": token, "failing.marks": mark_count, "status": {"$ne": "running"}}
                changes.append(UpdateOne(same, change))
            if changes:
                self._batches.bulk_write(changes, ordered=False)

    def count_if_lost(self, batch: Batch) -> None:
        """Counts a batch again that was lost while its rows changed: its number may have been kept just before."""
        claimed = {"_id": batch.token, "owner": batch.owner, "status": "running"}
        if self._batches.find_one(claimed, {"_id": 1}) is None:
            self.mark([batch.token])
            self.keep([batch.token])

    def keep_all(self, run_id: str) -> None:
        """Counts what a crash has left marked of a run, its blocks too."""
        marked = {"run": run_id, "failing.n": MARKED}
        self.count([f"{run_id}.{row['seq']}" for row in self._batches.find(marked, {"_id": 0, "seq": 1})])
        self._blocks.keep_all(run_id)

    def keep_some(self, seconds: float) -> None:
        """Does the same for blocks of any run, for about `seconds`."""
        self._blocks.keep_some(seconds, self.count)

    def by_worker(self, workers: Sequence[str]) -> Mapping[str, int]:
        """Returns for each worker the number of batches with unresolved failures that it claimed last."""
        holders = dict[str, str]()

        def look() -> Look[dict[str, int]]:
            of_workers = {"worker": {"$in": list(workers)}}
            rows_kept = self._batches.aggregate([
                {"$match": {**of_workers, "failing.n": {"$gte": 1}}}, {"$group": {"_id": "$worker", "n": {"$sum": 1}}},
            ])  # fmt: skip
            numbers = {row["_id"]: int(row["n"]) for row in rows_kept}
            marked = self._batches.find({**of_workers, "failing.n": MARKED}, {"worker": 1})
            unclear = {row["_id"]: row["worker"] for row in marked}
            holders.update(unclear)
            return Look(numbers, sorted(unclear), moving=True)

        numbers_by_worker, rows = kept_and_counted(self._failures, look)
        for token, groups in rows.items():
            numbers_by_worker[holders[token]] = (
                numbers_by_worker.get(holders[token], 0) + tally(groups).batches
            )
        return numbers_by_worker

    def of_runs(self, run_ids: Sequence[str]) -> Mapping[str, FailureTally]:
        """Returns the sums over the batches of some runs."""
        return self._blocks.of_runs(run_ids)


def _pages(tokens: Sequence[str]) -> Iterable[list[str]]:
    return (list(tokens[start : start + AT_ONCE]) for start in range(0, len(tokens), AT_ONCE))
