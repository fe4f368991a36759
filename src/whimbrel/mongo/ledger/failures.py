"""Failures: one row for each run and document; the truth about a document that failed (hole H21).

Rows in state "passed" are no failures: they remember what was skipped or unchanged under the mark
"filter", where documents cannot say so themselves (hole H2).
"""

from collections import defaultdict
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
from whimbrel.mongo.ledger.failure_lists import BY_CAUSE
from whimbrel.mongo.ledger.failure_reads import PAGE, PASSED, FailureReads, on, same
from whimbrel.mongo.ledger.failure_rows import first_row, one_more
from whimbrel.mongo.ledger.failure_sums import FailureSums


class MongoFailures(FailureReads):
    """See `whimbrel.ports.Failures`."""

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
        self._marked: dict[str, str | None] = {}  # batch -> the claim under which it was marked here

    def create_indexes(self) -> None:
        self._failures.create_index([("run", 1), ("key._id", 1)])
        self._failures.create_index([
            ("ns", 1), ("migration", 1), ("version", 1), ("state", 1), ("key._id", 1), ("run", 1)
        ])  # fmt: skip
        self._failures.create_index([("run", 1), ("state", 1), ("dueAt", 1)])
        self._failures.create_index(BY_CAUSE)
        self._failures.create_index([("batch", 1), ("state", 1), ("outcome", 1), ("group", 1)])

    def record(self, run: Run, batch: Batch, troubles: Sequence[FailedDocument]) -> None:
        for at in range(0, len(troubles), PAGE):
            page = troubles[at : at + PAGE]
            with translated():
                rows = self._rows(run, [each.key for each in page], {})
                known = {Key(row["key"].raw): row["batch"] for row in rows}
                before = set(known.values()) - {batch.token}
                self._mark(batch)
                self._batch_failures.mark(before)
                older = self._older(run, [each.key for each in page], UNRESOLVED)
                self._write(run, batch, page, known, _since(run, older))
                self._batch_failures.keep(before)
                self._batch_failures.late(batch)
                self._supersede(older)

    def _rows(self, run: Run, keys: Sequence[Key], query: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """The run's rows of these documents."""
        ids = [{"r": run.id, "d": key.document} for key in keys]
        return list(self._failures.find({"_id": {"$in": ids}, **query}, {"_id": 0, "key": 1, "batch": 1}))

    def _write(
        self,
        run: Run,
        batch: Batch,
        troubles: Sequence[FailedDocument],
        known: Container[Key],
        since: Mapping[Key, datetime],
    ) -> None:
        """A document's first row is inserted, which is several times as fast; the others have one attempt more."""
        groups = self._causes.groups(run.id, troubles)
        fresh, rest = list[tuple[FailedDocument, str]](), list[tuple[FailedDocument, str]]()
        for trouble, group in zip(troubles, groups, strict=True):
            (rest if trouble.key in known else fresh).append((trouble, group))
        if fresh:
            now: datetime = self._failures.database.command("hello")["localTime"]  # the server's
            rows = [
                first_row(run, batch, trouble, group, now=now, since=since[trouble.key])
                for trouble, group in fresh
            ]
            try:
                self._failures.insert_many(rows, ordered=False)
            except BulkWriteError as error:
                failed = error.details["writeErrors"]
                if any(each["code"] != DUPLICATE_KEY for each in failed):
                    raise
                rest += [fresh[each["index"]] for each in failed]
        if rest:
            self._failures.bulk_write([one_more(run, batch, *each) for each in rest], ordered=False)

    def _mark(self, batch: Batch) -> None:
        """Once a claim: nobody keeps the number of a batch that is worked on, so the mark stays until it ends."""
        if self._marked.get(batch.token, "") == batch.owner:
            return
        if len(self._marked) >= PAGE:
            self._marked = {}
        self._batch_failures.mark([batch.token])
        self._marked[batch.token] = batch.owner

    def _older(self, run: Run, keys: Sequence[Key], states: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """What earlier runs of the migration have recorded of these documents. Only they: a verification takes over nothing."""
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
        """These rows go: the newest tells since when its document fails."""
        if not older:
            return
        tokens = {row["batch"] for row in older}
        self._batch_failures.mark(tokens)
        self._failures.delete_many({"_id": {"$in": [row["_id"] for row in older]}})
        self._batch_failures.keep(tokens)

    def record_passed_over(self, run: Run, batch: Batch, outcomes: Mapping[Key, str]) -> None:
        keys = list(outcomes)
        for at in range(0, len(keys), PAGE):
            page = keys[at : at + PAGE]
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
            tokens = {each.batch for each in failures}
            with translated():
                self._batch_failures.mark(tokens)
                self._failures.update_many(
                    {"_id": {"$in": [{"r": each.run, "d": each.key.document} for each in failures]}},
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
            found = self._batch_failures.of_runs(runs)
        return {
            run: (
                {
                    "open": it.open,
                    "dead": it.n - it.open,
                    "failed": it.n - it.conflict,
                    "conflict": it.conflict,
                },
                it.batches,
            )
            for run, it in found.items()
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
        again, opened = [{"$set": {"state": "open", "attempt": 0, "dueAt": "$$NOW"}}], 0
        with translated():
            for tokens in self._batch_failures.failing(run_id):
                dead = {"batch": {"$in": tokens}, "state": "dead", **({"group": group} if group else {})}
                if self._failures.find_one(dead, {"_id": 1}) is not None:
                    self._batch_failures.mark(tokens)
                    opened += self._failures.update_many(dead, again).modified_count
                    self._batch_failures.keep(tokens)
        return opened


def _since(run: Run, older: Sequence[Mapping[str, Any]]) -> Mapping[Key, datetime]:
    """When the first run began that has met each document's failure, one run after the other."""
    found: dict[Key, datetime] = defaultdict(lambda: run.created_at)
    for row in older:
        key = Key(row["key"].raw)
        found[key] = min(found[key], row.get("since") or run.created_at)
    return found
