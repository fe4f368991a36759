"""How many documents of each batch have an unresolved failure: kept in the batch's row, and counted again when they change.

A number is never changed by what somebody did, which a crash would do twice or not at all. Whoever is about to change rows of
failures first marks their batches (`n` is -1); what such a batch has is counted from its rows whenever it is asked for. Afterwards
the rows are counted and the number is kept, unless somebody else has marked the batch meanwhile.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection

from whimbrel.domain.failures import FailureState

UNRESOLVED = [str(FailureState.OPEN), str(FailureState.DEAD)]
MARKED = -1
AT_ONCE = 1000  # batches in one statement
KEPT = {"failing.n": {"$gte": MARKED}}  # as it stands in the index
_OPEN = {"$sum": {"$cond": [{"$eq": ["$state", "open"]}, 1, 0]}}
_CONFLICT = {"$sum": {"$cond": [{"$eq": ["$outcome", "conflict"]}, 1, 0]}}
_COUNTED = {"n": {"$sum": 1}, "open": _OPEN, "conflict": _CONFLICT}


@dataclass(frozen=True, slots=True)
class Tally:
    """Documents with an unresolved failure, those of them that are tried again and that are conflicts, and their batches."""

    n: int = 0
    open: int = 0
    conflict: int = 0
    batches: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.n + other.n,
            self.open + other.open,
            self.conflict + other.conflict,
            self.batches + other.batches,
        )


class Tallies:
    """The numbers of unresolved failures in the rows of batches."""

    def __init__(self, batches: Collection[Any], failures: Collection[Any]) -> None:
        self._batches, self._failures = batches, failures

    def create_indexes(self) -> None:
        kept = [("run", 1), ("failing.n", 1), ("failing.open", 1), ("failing.conflict", 1), ("seq", 1)]
        self._batches.create_index(kept, partialFilterExpression=KEPT, name="failing_of_a_run")
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

    def mark_all(self, run_id: str) -> Sequence[str]:
        """The same for all batches of a run that have failures: which these are."""
        failing = self._batches.find({"run": run_id, **KEPT}, {"_id": 0, "seq": 1})
        tokens = [f"{run_id}.{row['seq']}" for row in failing]
        self.mark(tokens)
        return tokens

    def keep(self, tokens: Iterable[str]) -> None:
        """Count again what was marked, and keep the numbers; but not of batches that somebody works on, and may mark once only."""
        for page in _pages(sorted(set(tokens))):
            marked = {"_id": {"$in": page}, "failing.n": MARKED, "status": {"$ne": "running"}}
            marks = {
                row["_id"]: row["failing"]["marks"] for row in self._batches.find(marked, {"failing": 1})
            }
            counted = self._counted({"$in": list(marks)}) if marks else {}
            changes = []
            for token, seen in marks.items():
                it = counted.get(token, Tally())
                numbers = {"failing.n": it.n, "failing.open": it.open, "failing.conflict": it.conflict}
                change = {"$set": numbers} if it.n else {"$unset": dict.fromkeys(numbers, "")}
                same = {"_id": token, "failing.marks": seen, "status": {"$ne": "running"}}
                changes.append(UpdateOne(same, change))
            if changes:
                self._batches.bulk_write(changes, ordered=False)

    def late(self, token: str) -> None:
        """Rows of this batch have changed: if nobody works on it any more, its number may have been kept just before."""
        if self._batches.find_one({"_id": token, "status": {"$ne": "running"}}, {"_id": 1}) is not None:
            self.mark([token])
            self.keep([token])

    def keep_all(self, run_id: str) -> None:
        """The same for all batches of a run that a crash has left marked."""
        left = self._batches.find({"run": run_id, "failing.n": MARKED}, {"_id": 0, "seq": 1})
        self.keep(f"{run_id}.{row['seq']}" for row in left)

    def of_run(self, run_id: str) -> Tally:
        """The sum over the batches of a run."""
        marked: list[str] = []
        total = Tally()
        numbers = {"n": "$failing.n", "open": "$failing.open", "conflict": "$failing.conflict"}
        is_marked = {"$eq": ["$failing.n", MARKED]}
        seqs = {"$push": {"$cond": [is_marked, "$seq", "$$REMOVE"]}}
        known = {"$cond": [is_marked, 0, 1]}
        sums = {name: {"$sum": {"$cond": [is_marked, 0, field]}} for name, field in numbers.items()}
        for row in self._batches.aggregate([
            {"$match": {"run": run_id, **KEPT}},
            {"$group": {"_id": None, **sums, "batches": {"$sum": known}, "marked": seqs}},
        ]):  # fmt: skip
            total = Tally(*(int(row[name]) for name in ("n", "open", "conflict", "batches")))
            marked = [f"{run_id}.{seq}" for seq in row["marked"]]
        for page in _pages(marked):
            total = sum(self._counted({"$in": page}).values(), total)
        return total if total.n or marked else self._by_rows(run_id)

    def by_worker(self, workers: Sequence[str]) -> Mapping[str, int]:
        """How many batches that have unresolved failures each of these workers claimed last."""
        found: dict[str, int] = {}
        failing = {"worker": {"$in": list(workers)}, "failing.n": {"$gte": 1}}
        for row in self._batches.aggregate([
            {"$match": failing}, {"$group": {"_id": "$worker", "n": {"$sum": 1}}},
        ]):  # fmt: skip
            found[row["_id"]] = int(row["n"])
        marked = {"worker": {"$in": list(workers)}, "failing.n": MARKED}
        unclear = {row["_id"]: row["worker"] for row in self._batches.find(marked, {"worker": 1})}
        for page in _pages(list(unclear)):
            for token in self._counted({"$in": page}):
                found[unclear[token]] = found.get(unclear[token], 0) + 1
        return found

    def _counted(self, tokens: Mapping[str, Any]) -> dict[str, Tally]:
        rows = self._failures.aggregate([
            {"$match": {"batch": tokens, "state": {"$in": UNRESOLVED}}},
            {"$group": {"_id": "$batch", **_COUNTED}},
        ])  # fmt: skip
        return {row["_id"]: Tally(row["n"], row["open"], row["conflict"], 1) for row in rows}

    def _by_rows(self, run_id: str) -> Tally:
        """Of a run whose batches keep no numbers: its rows were not recorded by a worker."""
        unresolved = {"run": run_id, "state": {"$in": UNRESOLVED}}
        if self._failures.find_one(unresolved, {"_id": 0, "run": 1}) is None:
            return Tally()
        rows = self._failures.aggregate([
            {"$match": unresolved}, {"$group": {"_id": "$batch", **_COUNTED}},
        ])  # fmt: skip
        return sum((Tally(row["n"], row["open"], row["conflict"], 1) for row in rows), Tally())


def _pages(tokens: Sequence[str]) -> Iterable[list[str]]:
    return (list(tokens[at : at + AT_ONCE]) for at in range(0, len(tokens), AT_ONCE))
