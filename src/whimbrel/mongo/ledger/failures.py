"""Stores failures: one row for each run and document; the truth about a document that failed (hole H21).

Rows in state "passed" are not failures: they remember what was skipped or unchanged under the mark
"filter", where documents have no mark of their own (hole H2).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, Unresolved
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.errors import Transient
from whimbrel.mongo.driver_errors import DUPLICATE_KEY, translated
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.failure_causes import FailureCauses
from whimbrel.mongo.ledger.failure_counts import RECORDED, UNRESOLVED
from whimbrel.mongo.ledger.failure_reads import PAGE, PASSED, FailureReads, on, same
from whimbrel.mongo.ledger.failure_rows import another_attempt, first_row, row_id
from whimbrel.mongo.ledger.failure_sums import FailureSums

MOVES = 10  # times that rows may be moved by others while a batch records them
_Change = Mapping[str, Any] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Place:
    """The batch that a row belongs to, and whether it is counted there."""

    batch: str
    counted: bool


class MongoFailures(FailureReads):
    """Implements `whimbrel.ports.Failures`."""

    def __init__(
        self,
        collection: Collection[Any],
        runs: Collection[Any],
        batch_failures: BatchFailureCounts,
        blocks: FailureSums,
        causes: FailureCauses,
    ) -> None:
        super().__init__(collection, runs, blocks, causes)
        self._batch_failures = batch_failures
        self._marked: dict[str, str | None] = {}  # batch -> the claim for which this process marked it

    def record(self, run: Run, batch: Batch, failures: Sequence[FailedDocument]) -> None:
        for start in range(0, len(failures), PAGE):
            page = failures[start : start + PAGE]
            with translated():
                places = self._places(run, [failure.key for failure in page])
                self._mark(batch)
                older = self._older(run, [failure.key for failure in page], UNRESOLVED)
                left = self._write(run, batch, page, places, _since(run, older))
                self._batch_failures.keep(left)
                self._batch_failures.count_if_lost(batch)
                self._supersede(older)

    def _places(self, run: Run, keys: Sequence[Key]) -> dict[Key, _Place]:
        """Returns where the rows of documents are now."""
        ids = [row_id(run.id, key) for key in keys]
        rows = self._failures.find({"_id": {"$in": ids}}, {"_id": 0, "key": 1, "batch": 1, "state": 1})
        return {Key(row["key"].raw): _Place(row["batch"], row["state"] in RECORDED) for row in rows}

    def _write(
        self,
        run: Run,
        batch: Batch,
        failures: Sequence[FailedDocument],
        places: Mapping[Key, _Place],
        since: Mapping[Key, datetime],
    ) -> set[str]:
        """Inserts documents' first rows, which is several times as fast, and adds an attempt to existing ones. Returns the batches that rows have left."""
        groups = self._causes.groups(run.id, failures)
        group_by_key = {failure.key: group for failure, group in zip(failures, groups, strict=True)}
        new_failures = [failure for failure in failures if failure.key not in places]
        repeated = {failure.key: failure for failure in failures if failure.key in places}
        if new_failures:
            now: datetime = self._failures.database.command("hello")["localTime"]  # the server's
            rows = [
                first_row(run, batch, failure, group_by_key[failure.key], now=now, since=since[failure.key])
                for failure in new_failures
            ]
            try:
                self._failures.insert_many(rows, ordered=False)
            except BulkWriteError as error:
                for index in _duplicates(error):
                    repeated[new_failures[index].key] = new_failures[index]
        attempts: dict[Key, _Change] = {
            key: another_attempt(run, batch, failure, group_by_key[key]) for key, failure in repeated.items()
        }
        left = self._change(run, attempts, places, marked={batch.token})
        self._causes.count(run.id, Counter(groups))
        return left

    def _change(
        self,
        run: Run,
        changes: Mapping[Key, _Change],
        places: Mapping[Key, _Place],
        *,
        marked: AbstractSet[str] = frozenset(),
    ) -> set[str]:
        """Changes rows of documents, adds missing ones, and returns the batches that were marked for it. `marked`: those that are already.

        Only in a batch that is marked may a counted row be changed, or taken from it: its number, kept meanwhile by another process,
        would count the row for ever (hole H83).
        """
        sources = set[str]()
        if not changes:
            return sources
        for _ in range(MOVES):
            new = {places[key].batch for key in changes if key in places and places[key].counted}
            self._batch_failures.mark(new - sources - marked)
            sources |= new - marked
            requests = []
            for key, change in changes.items():
                place = {"batch": places[key].batch if key in places else None}
                requests.append(UpdateOne({"_id": row_id(run.id, key), **place}, change, upsert=True))
            try:
                self._failures.bulk_write(requests, ordered=False)
            except BulkWriteError as error:  # others have moved these rows, or added them
                moved, keys = set(_duplicates(error)), list(changes)
                changes = {key: changes[key] for number, key in enumerate(keys) if number in moved}
                places = self._places(run, list(changes))
            else:
                return sources
        raise Transient(f"Other batches of run {run.id} record failures of the same documents.")

    def _mark(self, batch: Batch) -> None:
        """Marks a batch once for each claim: the number of a batch being worked on is not kept, so the mark stays until it ends."""
        if self._marked.get(batch.token, "") == batch.owner:
            return
        if len(self._marked) >= PAGE:
            self._marked = {}
        self._batch_failures.mark([batch.token])
        self._marked[batch.token] = batch.owner

    def _older(self, run: Run, keys: Sequence[Key], states: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Returns what earlier runs of the migration recorded of these documents; nothing for other kinds of run."""
        if run.kind != "migration":
            return []
        of_others = {
            **same(run),
            "run": {"$ne": run.id},
            "job": "migration",
            "state": {"$in": list(states)},
            **on(keys),
        }
        return list(self._failures.find(of_others, {"batch": 1, "key": 1, "since": 1}))

    def _supersede(self, older: Sequence[Mapping[str, Any]]) -> None:
        """Deletes rows that a newer one replaces, which keeps since when its document fails."""
        if not older:
            return
        tokens = {row["batch"] for row in older}
        self._batch_failures.mark(tokens)
        self._failures.delete_many({"_id": {"$in": [row["_id"] for row in older]}})
        self._batch_failures.keep(tokens)

    def record_passed_over(self, run: Run, batch: Batch, outcomes: Mapping[Key, str]) -> None:
        keys = list(outcomes)
        for start in range(0, len(keys), PAGE):
            page = keys[start : start + PAGE]
            with translated():
                older = self._older(run, page, PASSED)
                since = _since(run, older)
                changes: dict[Key, _Change] = {
                    key: {
                        "$set": {
                            "run": run.id, "job": run.kind, **same(run), "key": key.document, "batch": batch.token, "state": "passed",
                            "outcome": outcomes[key],
                        },
                        "$setOnInsert": {"since": since[key]},
                    }
                    for key in page
                }  # fmt: skip
                left = self._change(run, changes, self._places(run, page))
                self._batch_failures.keep(left)
                self._supersede(older)

    def resolve(self, failures: Sequence[Unresolved], resolution: str) -> None:
        if failures:
            tokens = {failure.batch for failure in failures}
            with translated():
                self._batch_failures.mark(tokens)
                # What another batch has taken meanwhile stays open: it is tried again there.
                rows = {"_id": {"$in": [row_id(failure.run, failure.key) for failure in failures]}}
                self._failures.update_many(
                    {**rows, "batch": {"$in": list(tokens)}},
                    {
                        "$set": {"state": "resolved", "resolution": resolution},
                        "$currentDate": {"lastAt": True},
                    },
                )
                self._batch_failures.keep(tokens)

    def withdraw(self, run_id: str, type_: str, *, message: str | None = None) -> None:
        query = {"type": type_} | ({"message": message} if message is not None else {})
        with translated():
            for tokens in self._batch_failures.failing(run_id):
                self._batch_failures.mark(tokens)
                self._failures.delete_many({"batch": {"$in": tokens}, "state": {"$in": UNRESOLVED}, **query})
                self._batch_failures.keep(tokens)

    def counts(self, run_id: str) -> dict[str, int]:
        return self.numbers(run_id)[0]

    def numbers(self, run_id: str) -> tuple[dict[str, int], int]:
        return self.numbers_each([run_id])[run_id]

    def numbers_each(self, runs: Sequence[str]) -> Mapping[str, tuple[dict[str, int], int]]:
        if not runs:
            return {}
        with translated():
            tallies = self._batch_failures.of_runs(runs)
        return {
            run: (
                {
                    "open": tally.open,
                    "dead": tally.n - tally.open,
                    "failed": tally.n - tally.conflict,
                    "conflict": tally.conflict,
                },
                tally.batches,
            )
            for run, tally in tallies.items()
        }

    def add_up(self, run_id: str) -> None:
        with translated():
            self._batch_failures.keep_all(run_id)

    def by_worker(self, workers: Sequence[str]) -> Mapping[str, int]:
        with translated():
            return self._batch_failures.by_worker(workers)

    def keep_some(self, seconds: float) -> None:
        with translated():
            self._batch_failures.keep_some(seconds)

    def reopen(self, run_id: str, *, group: str | None = None) -> int:
        reopening, opened = [{"$set": {"state": "open", "attempt": 0, "dueAt": "$$NOW"}}], 0
        with translated():
            for tokens in self._batch_failures.failing(run_id):
                dead = {"batch": {"$in": tokens}, "state": "dead", **({"group": group} if group else {})}
                if self._failures.find_one(dead, {"_id": 1}) is not None:
                    self._batch_failures.mark(tokens)
                    opened += self._failures.update_many(dead, reopening).modified_count
                    self._batch_failures.keep(tokens)
        return opened


def _duplicates(error: BulkWriteError) -> list[int]:
    """Returns the numbers of the requests that met an existing row. Raises where there was another error."""
    failed: list[Mapping[str, Any]] = error.details["writeErrors"]
    if any(write_error["code"] != DUPLICATE_KEY for write_error in failed):
        raise error
    return [write_error["index"] for write_error in failed]


def _since(run: Run, older: Sequence[Mapping[str, Any]]) -> Mapping[Key, datetime]:
    """Returns when the first of the consecutive runs that met each document's failure began."""
    since: dict[Key, datetime] = defaultdict(lambda: run.created_at)
    for row in older:
        key = Key(row["key"].raw)
        since[key] = min(since[key], row.get("since") or run.created_at)
    return since
