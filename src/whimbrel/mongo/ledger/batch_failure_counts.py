"""How many documents of each batch have an unresolved failure: kept in the batch's row, and counted again when they change.

A number is never changed by what somebody did, which a crash would do twice or not at all. Whoever is about to change rows of
failures first marks their batches (`n` is -1); what such a batch has is counted from its rows whenever it is asked for. Afterwards
it marks them once more, so that a count which others made before the change is not kept after it; then the rows are counted and the
number is kept, unless somebody else has marked the batch meanwhile. Sums of many batches are kept by block, in the same way (`blocks.py`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection

from whimbrel.domain.runs.batches import Batch
from whimbrel.mongo.ledger.failure_counts import (
    AT_ONCE,
    FailureTally,
    counted,
    groups_rows,
    kept_and_counted,
    tally,
)
from whimbrel.mongo.ledger.failure_sums import KEPT, MARKED, FailureSums

ROWS = 20_000  # of failures that one statement changes, about
UNKNOWN = 1000  # of them that a batch is taken to have whose number is not known


class BatchFailureCounts:
    """The numbers of failures in the rows of batches."""

    def __init__(self, batches: Collection[Any], failures: Collection[Any], blocks: FailureSums) -> None:
        self._batches, self._failures, self._blocks = batches, failures, blocks

    def create_indexes(self) -> None:
        kept = [("run", 1), ("seq", 1), ("failing.n", 1), ("failing.open", 1), ("failing.conflict", 1)]
        self._batches.create_index(kept, partialFilterExpression=KEPT, name="failing_in_order")
        self._batches.create_index(
            [("worker", 1), ("failing.n", 1)], partialFilterExpression=KEPT, name="failing_of_a_worker"
        )

    def mark(self, tokens: Iterable[str]) -> None:
        """The rows of failures of these batches are about to change."""
        marked = {
            "$inc": {"failing.marks": 1},
            "$set": {"failing.n": MARKED, "failing.open": 0, "failing.conflict": 0},
        }
        for page in _pages(sorted(set(tokens))):
            self._batches.update_many({"_id": {"$in": page}}, marked)
            self._blocks.mark(page)  # after the batches: see there

    def failing(self, run_id: str) -> Iterator[list[str]]:
        """The batches of a run that have unresolved failures, as many at a time as one statement may change rows of."""
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
        """The rows of these batches, which were marked, have changed."""
        for page in _pages(sorted(set(tokens))):
            marked = {"_id": {"$in": page}, "failing.n": MARKED}
            again = self._batches.update_many(marked, {"$inc": {"failing.marks": 1}})
            # Fewer: somebody else has kept a number, from rows before this change, perhaps.
            if again.matched_count < len(page):
                self.mark(page)
            self.count(page)

    def count(self, tokens: Iterable[str]) -> None:
        """Count again what is marked, and keep the numbers; but not of batches that somebody works on, and may mark once only."""
        for page in _pages(sorted(set(tokens))):
            marked = {"_id": {"$in": page}, "failing.n": MARKED, "status": {"$ne": "running"}}
            marks = {
                row["_id"]: row["failing"]["marks"]
                for row in self._batches.find(marked, {"failing.marks": 1})
            }
            found = counted(self._failures, list(marks))
            changes = []
            for token, seen in marks.items():
                groups = found.get(token, {})
                it = tally(groups)
                numbers = {"failing.n": it.n, "failing.open": it.open, "failing.conflict": it.conflict}
                fields = {**numbers, "failing.groups": groups_rows(groups)}
                change = {"$set": fields} if groups else {"$unset": dict.fromkeys(fields, "")}
                same = {"_id": token, "failing.marks": seen, "status": {"$ne": "running"}}
                changes.append(UpdateOne(same, change))
            if changes:
                self._batches.bulk_write(changes, ordered=False)

    def late(self, batch: Batch) -> None:
        """Rows of this batch have changed: if it is in other hands by now, its number may have been kept just before."""
        held = {"_id": batch.token, "owner": batch.owner, "status": "running"}
        if self._batches.find_one(held, {"_id": 1}) is None:
            self.mark([batch.token])
            self.keep([batch.token])

    def keep_all(self, run_id: str) -> None:
        """Keep what a crash has left marked of a run, its blocks too."""
        left = {"run": run_id, "failing.n": MARKED}
        self.count([f"{run_id}.{row['seq']}" for row in self._batches.find(left, {"_id": 0, "seq": 1})])
        self._blocks.keep_all(run_id)

    def keep_some(self, seconds: float) -> None:
        """The same for blocks of any runs, for about so many seconds."""
        self._blocks.keep_some(seconds, self.count)

    def by_worker(self, workers: Sequence[str]) -> Mapping[str, int]:
        """How many batches that have unresolved failures each of these workers claimed last."""
        holders = dict[str, str]()

        def look() -> tuple[dict[str, int], list[str]]:
            of_workers = {"worker": {"$in": list(workers)}}
            kept = self._batches.aggregate([
                {"$match": {**of_workers, "failing.n": {"$gte": 1}}}, {"$group": {"_id": "$worker", "n": {"$sum": 1}}},
            ])  # fmt: skip
            numbers = {row["_id"]: int(row["n"]) for row in kept}
            marked = self._batches.find({**of_workers, "failing.n": MARKED}, {"worker": 1})
            unclear = {row["_id"]: row["worker"] for row in marked}
            holders.update(unclear)
            return numbers, sorted(unclear)

        found, rows = kept_and_counted(self._failures, look)
        for token, groups in rows.items():
            found[holders[token]] = found.get(holders[token], 0) + tally(groups).batches
        return found

    def of_runs(self, run_ids: Sequence[str]) -> Mapping[str, FailureTally]:
        """The sums over the batches of some runs."""
        return self._blocks.of_runs(run_ids)


def _pages(tokens: Sequence[str]) -> Iterable[list[str]]:
    return (list(tokens[at : at + AT_ONCE]) for at in range(0, len(tokens), AT_ONCE))
