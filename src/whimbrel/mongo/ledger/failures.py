"""Stores failures: one row for each run and document; the truth about a document that failed (hole H21).

Rows in state "passed" are not failures: they remember what was skipped or unchanged under the mark
"filter", where documents have no mark of their own (hole H2).
"""

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from datetime import datetime
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, Unresolved
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.mongo.driver_errors import DUPLICATE_KEY, translated
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.failure_causes import FailureCauses
from whimbrel.mongo.ledger.failure_counts import RECORDED, UNRESOLVED
from whimbrel.mongo.ledger.failure_reads import PAGE, PASSED, FailureReads, on, same
from whimbrel.mongo.ledger.failure_rows import another_attempt, first_row
from whimbrel.mongo.ledger.failure_sums import FailureSums


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
                rows = self._rows(run, [failure.key for failure in page], {})
                batch_by_key = {Key(row["key"].raw): row["batch"] for row in rows}
                before = set(batch_by_key.values()) - {batch.token}
                self._mark(batch)
                self._batch_failures.mark(before)
                older = self._older(run, [failure.key for failure in page], UNRESOLVED)
                self._write(run, batch, page, batch_by_key, _since(run, older))
                self._batch_failures.keep(before)
                self._batch_failures.count_if_lost(batch)
                self._supersede(older)

    def _rows(self, run: Run, keys: Sequence[Key], query: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """Returns the run's rows of these documents."""
        ids = [{"r": run.id, "d": key.document} for key in keys]
        return list(self._failures.find({"_id": {"$in": ids}, **query}, {"_id": 0, "key": 1, "batch": 1}))

    def _write(
        self,
        run: Run,
        batch: Batch,
        failures: Sequence[FailedDocument],
        known: Container[Key],
        since: Mapping[Key, datetime],
    ) -> None:
        """Inserts documents' first rows, which is several times as fast, and adds an attempt to existing ones."""
        groups = self._causes.groups(run.id, failures)
        new_failures, repeated_failures = (
            list[tuple[FailedDocument, str]](),
            list[tuple[FailedDocument, str]](),
        )
        for failure, group in zip(failures, groups, strict=True):
            (repeated_failures if failure.key in known else new_failures).append((failure, group))
        if new_failures:
            now: datetime = self._failures.database.command("hello")["localTime"]  # the server's
            rows = [
                first_row(run, batch, failure, group, now=now, since=since[failure.key])
                for failure, group in new_failures
            ]
            try:
                self._failures.insert_many(rows, ordered=False)
            except BulkWriteError as error:
                failed = error.details["writeErrors"]
                if any(write_error["code"] != DUPLICATE_KEY for write_error in failed):
                    raise
                repeated_failures += [new_failures[write_error["index"]] for write_error in failed]
        if repeated_failures:
            self._failures.bulk_write(
                [another_attempt(run, batch, *repeat) for repeat in repeated_failures], ordered=False
            )
        self._causes.trends.add(run.id, Counter(groups))

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
                before = {row["batch"] for row in self._rows(run, page, {"state": {"$in": RECORDED}})}
                self._batch_failures.mark(before)
                rows = [
                    UpdateOne(
                        {"_id": {"r": run.id, "d": key.document}},
                        {
                            "$set": {
                                "run": run.id, "job": run.kind, **same(run), "key": key.document, "batch": batch.token, "state": "passed",
                                "outcome": outcomes[key],
                            },
                            "$setOnInsert": {"since": since[key]},
                        },
                        upsert=True,
                    )
                    for key in page
                ]  # fmt: skip
                self._failures.bulk_write(rows, ordered=False)
                self._batch_failures.keep(before)
                self._supersede(older)

    def resolve(self, failures: Sequence[Unresolved], resolution: str) -> None:
        if failures:
            tokens = {failure.batch for failure in failures}
            with translated():
                self._batch_failures.mark(tokens)
                self._failures.update_many(
                    {"_id": {"$in": [{"r": failure.run, "d": failure.key.document} for failure in failures]}},
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


def _since(run: Run, older: Sequence[Mapping[str, Any]]) -> Mapping[Key, datetime]:
    """Returns when the first of the consecutive runs that met each document's failure began."""
    since: dict[Key, datetime] = defaultdict(lambda: run.created_at)
    for row in older:
        key = Key(row["key"].raw)
        since[key] = min(since[key], row.get("since") or run.created_at)
    return since
