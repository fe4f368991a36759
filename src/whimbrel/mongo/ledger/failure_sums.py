"""Keeps sums of failures over blocks of a thousand batches, so that a run of any size is summed from a few rows.

They are kept like the numbers of batches. A process that changes rows of failures first marks their batches, and then, before the change,
their blocks; the sum of a marked block is computed from its batches. A block is kept again when none of its batches is marked,
unless it was marked since it was read. The order matters: if a block is read before one of its batches is
marked, the block's mark is still to come.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from bson.int64 import Int64
from bson.max_key import MaxKey
from pymongo import UpdateOne
from pymongo.collection import Collection

from whimbrel.domain.failures.causes import GroupCount
from whimbrel.mongo.ledger.failure_counts import (
    FailureTally,
    Look,
    added,
    groups_rows,
    kept_and_counted,
    summed,
    tally,
)

SIZE = 1000  # batches of a block
WORD = 32  # batches whose bits are one number
SOME = 1000  # marked blocks that one round handles
MARKED = -1  # a batch's number, while its rows may change
KEPT = {"failing.n": {"$gte": MARKED}}  # the condition of the partial indexes
ROWS = 100_000  # read in one answer, up to 16 MB
Place = tuple[str, int]
"""A run, and the number of one of its blocks."""
T = TypeVar("T")
_NUMBERS = {"n": 1, "open": 1, "conflict": 1, "batches": 1}


class FailureSums:
    """Sums failures of runs: a row for each block; marked blocks are computed from their batches."""

    def __init__(self, blocks: Collection[Any], batches: Collection[Any], failures: Collection[Any]) -> None:
        self._blocks, self._batches, self._failures = blocks, batches, failures

    def mark(self, tokens: Iterable[str]) -> None:
        places: dict[Place, list[int]] = {}
        for run, _, seq in (token.rpartition(".") for token in tokens):
            places.setdefault((run, int(seq) // SIZE), []).append(int(seq) % SIZE)
        changes = [
            UpdateOne(
                {"_id": block_id(run, block)},
                {
                    "$inc": {"marks": 1},
                    "$set": {"run": run, "block": block, "marked": True},
                    "$bit": {f"failed.{word}": {"or": Int64(bits)} for word, bits in _words(failed)},
                },
                upsert=True,
            )
            for (run, block), failed in sorted(places.items())
        ]
        if changes:
            self._blocks.bulk_write(changes, ordered=False)

    # kept

    def keep_all(self, run_id: str) -> None:
        """Keeps the sums of a run's blocks that have no marked batch."""
        marked = self._blocks.find({"run": run_id, "marked": True}, {"_id": 0, "block": 1})
        for block in [row["block"] for row in marked]:
            self._keep(run_id, block)

    def keep_some(self, seconds: float, keep: Callable[[Sequence[str]], None]) -> None:
        """Keeps blocks of any run, for about `seconds`. `keep` counts marked batches that are not being worked on."""
        end = time.monotonic() + seconds
        marked = list(self._blocks.find({"marked": True}, {"_id": 0, "run": 1, "block": 1}).limit(SOME))
        random.shuffle(marked)
        for row in marked:
            if time.monotonic() > end:
                return
            keep(self._numbers(row["run"], [row["block"]])[1])
            self._keep(row["run"], row["block"])

    def _keep(self, run_id: str, block: int) -> None:
        row = self._blocks.find_one({"_id": block_id(run_id, block), "marked": True}, {"marks": 1})
        if row is None:
            return
        tally_of_block, unclear = self._numbers(run_id, [block])
        if unclear:
            return
        groups = summed(self._batches, _batches_of_blocks(run_id, [block]), "failing.groups")
        bits = failing_bits(self._failing(run_id, block))
        if self._numbers(run_id, [block]) != (tally_of_block, []):  # the two sums may be of different times
            return
        sums = {
            "n": tally_of_block.n,
            "open": tally_of_block.open,
            "conflict": tally_of_block.conflict,
            "batches": tally_of_block.batches,
        }
        self._blocks.update_one(
            {"_id": row["_id"], "marks": row["marks"]},
            {"$set": {**sums, "groups": groups_rows(groups), "bits": bits, "marked": False}},
        )

    def _failing(self, run_id: str, block: int) -> list[int]:
        """Returns the places in a block of the batches with failures."""
        failing = {**_batches_of_blocks(run_id, [block]), "failing.n": {"$gt": 0}}
        return [row["seq"] % SIZE for row in self._batches.find(failing, {"_id": 0, "seq": 1})]

    # read

    def of_runs(self, run_ids: Sequence[str]) -> dict[str, FailureTally]:
        """Returns the sums of some runs. The number of queries does not depend on how many, except for what is marked."""
        sums, rows = kept_and_counted(self._failures, lambda: self._kept_sums(run_ids))
        totals = {run_id: sums.get(run_id, FailureTally()) for run_id in run_ids}
        for token, groups in rows.items():
            totals[token.rpartition(".")[0]] += tally(groups)
        return totals

    def _kept_sums(self, run_ids: Sequence[str]) -> Look[dict[str, FailureTally]]:
        """Reads the sums of what is kept, by run."""
        totals = dict[str, FailureTally]()
        of_runs = {"run": {"$in": list(run_ids)}}
        marked = self._marked(of_runs)
        fields = {"_id": 0, "run": 1, "marked": 1, "block": 1, **_NUMBERS}
        rows = self._blocks.find(of_runs, fields, batch_size=ROWS)
        # By place: a block that is marked meanwhile moves in the index, where the same read may meet it again.
        kept = {(row["run"], row["block"]): row for row in rows if row.get("n") is not None}
        for place in kept.keys() - set(marked):
            row = kept[place]
            tally_of_block = FailureTally(row["n"], row["open"], row["conflict"], row["batches"])
            totals[row["run"]] = totals.get(row["run"], FailureTally()) + tally_of_block
        sums, unclear = self._sums(marked)
        for run_id, tally_of_run in sums.items():
            totals[run_id] = totals.get(run_id, FailureTally()) + tally_of_run
        return Look(totals, unclear, bool(marked))

    def groups_of(self, run_id: str) -> dict[str, GroupCount]:
        """Counts the failures of a run by group."""
        kept_counts, rows = kept_and_counted(self._failures, lambda: self._kept_groups(run_id))
        return added([kept_counts, *rows.values()])

    def _kept_groups(self, run_id: str) -> Look[dict[str, GroupCount]]:
        """Reads what is kept, by group."""
        marked = [block for _, block in self._marked({"run": run_id})]
        parts = [summed(self._blocks, blocks_between(run_id, 0, MaxKey(), without=marked), "groups")]
        open_ = list[str]()
        for page in _pages(marked):
            _, unclear = self._numbers(run_id, page)
            counted_batches = {**_batches_of_blocks(run_id, page), "_id": {"$nin": unclear}}
            parts.append(summed(self._batches, counted_batches, "failing.groups"))
            open_ += unclear
        return Look(added(parts), open_, bool(marked))

    def _marked(self, of_runs: Mapping[str, Any]) -> list[Place]:
        """Returns the marked blocks. They are read first, and all others counted by what is kept of them.

        If a block is marked after that, it still keeps its sum from before; if it is kept after that, its batches still have their numbers.
        """
        marked = self._blocks.find({**of_runs, "marked": True}, {"_id": 0, "run": 1, "block": 1})
        return [(row["run"], row["block"]) for row in marked]

    def _numbers(self, run_id: str, blocks: Sequence[int]) -> tuple[FailureTally, list[str]]:
        """Returns the sum over the batches of blocks, and the batches without a number: being executed, or left by a crash."""
        sums, unclear = self._sums([(run_id, block) for block in blocks])
        return sums.get(run_id, FailureTally()), unclear

    def _sums(self, places: Sequence[Place]) -> tuple[dict[str, FailureTally], list[str]]:
        """Does the same for blocks of some runs, by run."""
        total, unclear = dict[str, FailureTally](), list[str]()
        is_marked = {"$eq": ["$failing.n", MARKED]}
        sums = {name: {"$sum": f"$failing.{name}"} for name in ("open", "conflict")}
        counts = {
            "n": {"$sum": {"$max": ["$failing.n", 0]}}, "batches": {"$sum": {"$cond": [{"$gt": ["$failing.n", 0]}, 1, 0]}},
            "marked": {"$push": {"$cond": [is_marked, "$seq", "$$REMOVE"]}},
        }  # fmt: skip
        for page in _pages(places):
            by_run: dict[str, list[int]] = {}
            for run_id, block in page:
                by_run.setdefault(run_id, []).append(block)
            among = [_batches_of_blocks(run_id, blocks) for run_id, blocks in by_run.items()]
            for row in self._batches.aggregate([
                {"$match": among[0] if len(among) == 1 else {"$or": among}},
                {"$group": {"_id": "$run", **sums, **counts}},
            ]):  # fmt: skip
                tally_of_run = FailureTally(*(int(row[name]) for name in _NUMBERS))
                total[row["_id"]] = total.get(row["_id"], FailureTally()) + tally_of_run
                unclear += [f"{row['_id']}.{seq}" for seq in row["marked"]]
        return total, unclear


def _words(places: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yields the numbers whose bits tell these batches of a block, with their places."""
    words: dict[int, int] = {}
    for place in places:
        words[place // WORD] = words.get(place // WORD, 0) | 1 << place % WORD
    yield from sorted(words.items())


def failed_bits(words: Mapping[str, int]) -> bytes:
    """Returns the batches of a block that ever had a failure, as `failing_bits` has them."""
    bits = sum(number << WORD * int(word) for word, number in words.items())
    return bits.to_bytes((SIZE + 7) // 8, "little")


def failing_bits(places: Iterable[int]) -> bytes:
    """Returns a bit for each batch of a block, set for these."""
    bits = 0
    for place in places:
        bits |= 1 << place
    return bits.to_bytes((SIZE + 7) // 8, "little")


def block_id(run_id: str, block: int | MaxKey) -> dict[str, Any]:
    return {"r": run_id, "b": block}


def blocks_between(
    run_id: str, first: int, last: int | MaxKey, *, without: Sequence[int] = ()
) -> dict[str, Any]:
    """Selects blocks of a run, by their ids: in an index that tells what is marked, a block may move while it is read, and be met twice, or not at all."""
    others = [block_id(run_id, block) for block in without]
    return {"_id": {"$gte": block_id(run_id, first), "$lte": block_id(run_id, last), "$nin": others}}


def _batches_of_blocks(run_id: str, blocks: Sequence[int]) -> dict[str, Any]:
    """Selects the batches of these blocks that have a number, or are marked."""
    places = [{"seq": {"$gte": block * SIZE, "$lt": (block + 1) * SIZE}} for block in blocks]
    return {"run": run_id, "$or": places, **KEPT}


def _pages(blocks: Sequence[T]) -> Iterator[Sequence[T]]:
    return (blocks[start : start + 100] for start in range(0, len(blocks), 100))
