"""Inserts, counts and removes the sample documents and sample runs of a database."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from whimbrel.domain.failures.causes import cause
from whimbrel.errors import TooSlow
from whimbrel.mongo.driver_errors import of_code, translated
from whimbrel.mongo.ledger.batch_failure_counts import BatchFailureCounts
from whimbrel.mongo.ledger.failure_causes import cause_rows
from whimbrel.mongo.ledger.failure_rows import row_id
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.ledger.rows import batch_row
from whimbrel.mongo.ledger.run_rows import run_row
from whimbrel.samples.migration import COLLECTION
from whimbrel.samples.runs import SampleRun
from whimbrel.samples.seeder import STATUSES

BLOCK = 10_000  # documents in one insert
WRITERS = 2
AT_ONCE = 200  # sample runs in one insert
OF_SAMPLES = {"sample": True}  # finds the rows of sample runs again
INDEX = [("status", 1), ("_id", 1)]  # the one that the phases use


@dataclass(frozen=True, slots=True)
class Census:
    """Counts of the sample documents after a run."""

    statuses: dict[str, int]
    migrated: int  # successes with the run's token and data.processed
    refused: int  # failed ones whose data is not an object: the sample migration cannot migrate them

    @property
    def total(self) -> int:
        return sum(self.statuses.values())


class MongoSamples:
    """The collection of the sample migration in one database, and the sample runs of its ledger."""

    def __init__(self, client: MongoClient[Any], database: str) -> None:
        self._client, self._database = client, client[database]
        self._samples = self._collection(COLLECTION)
        self._runs, self._batches, self._failures, causes, blocks = (
            self._collection(f"whimbrel_{name}")
            for name in ("runs", "batches", "failures", "causes", "blocks")
        )
        self._causes = causes
        self._of_runs = (self._failures, self._batches, causes, blocks)
        self._batch_failures = BatchFailureCounts(
            self._batches, self._failures, FailureSums(blocks, self._batches, self._failures)
        )

    def _collection(self, name: str) -> Collection[Any]:
        return self._database.get_collection(
            name, read_concern=ReadConcern("majority"), write_concern=WriteConcern("majority")
        )

    def drop_database(self) -> None:
        """Drops the database, the ledger included."""
        with translated():
            self._client.drop_database(self._database.name)

    # documents

    def remove_trial(self, trial: str) -> int:
        """Removes the documents that a trial of the queue inserted, by their `testBatch`."""
        with translated():
            return self._samples.delete_many({"testBatch": trial}).deleted_count

    def insert(
        self,
        documents: Iterable[dict[str, Any]],
        *,
        block: int = BLOCK,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        """Creates the index that the phases use, inserts documents as they are generated, and yields how many are in.

        At most `WRITERS` + 2 blocks are in memory, however many documents there are. Ends early once `stop` says so,
        after the inserts under way.
        """
        with translated():
            self._samples.create_index(INDEX)
        source, inserted = iter(documents), 0
        under_way: deque[Future[int]] = deque()
        with ThreadPoolExecutor(WRITERS) as pool:
            while not stop() and (part := list(islice(source, block))):
                under_way.append(pool.submit(self._insert, part))
                if len(under_way) > WRITERS:
                    yield (inserted := inserted + under_way.popleft().result())
            while under_way:
                yield (inserted := inserted + under_way.popleft().result())

    def _insert(self, block: list[dict[str, Any]]) -> int:
        with translated():
            try:
                return len(self._samples.insert_many(block, ordered=False).inserted_ids)
            except BulkWriteError as error:
                first = next(iter((error.details or {}).get("writeErrors", [])), None)
                if first is None:
                    raise
                raise of_code(
                    first["code"], f"MongoDB refused a sample document: {first['errmsg']}"
                ) from error

    def clear(self) -> int:
        """Removes all sample documents and returns how many there were. The collection stays, empty, with the phases' index."""
        with translated():
            # Not counted exactly: that takes minutes where there are many.
            count = self._samples.estimated_document_count()
            if count or COLLECTION in self._database.list_collection_names(filter={"name": COLLECTION}):
                self._samples.drop()
                self._samples.create_index(INDEX)
        return count

    def estimate(self) -> int:
        """Returns how many sample documents there are, from the collection's metadata."""
        with translated():
            return self._samples.estimated_document_count()

    def statuses(self, seconds: float) -> dict[str, int] | None:
        """Counts the sample documents by status, all others as `other`; None where that takes longer than `seconds`."""
        known_status = {"$cond": [{"$in": ["$status", list(STATUSES)]}, "$status", "other"]}
        pipeline: list[Mapping[str, Any]] = [
            {"$project": {"_id": 0, "status": 1}},
            {"$group": {"_id": known_status, "n": {"$sum": 1}}},
        ]
        try:
            with translated():
                rows = self._samples.aggregate(pipeline, maxTimeMS=max(1, int(seconds * 1000)))
                return {row["_id"]: int(row["n"]) for row in rows}
        except TooSlow:
            return None

    def census(self, run_id: str) -> Census:
        """Counts the documents after a run, from the documents alone."""
        migrated = {
            "status": "success",
            "processedBy": {"$regex": f"^{run_id}\\.[0-9]+$"},
            "data.processed": True,
        }
        refused = {"status": "failed", "data": {"$not": {"$type": "object"}}}
        with translated():
            by_status = self._samples.aggregate([{"$group": {"_id": "$status", "n": {"$sum": 1}}}])
            return Census(
                {str(row["_id"]): int(row["n"]) for row in by_status},
                self._samples.count_documents(migrated),
                self._samples.count_documents(refused),
            )

    # runs

    def now(self) -> datetime:
        """Returns the server's time."""
        with translated():
            time: datetime = self._client.admin.command("hello")["localTime"]
        return time

    def insert_runs(self, runs: Iterable[SampleRun]) -> int:
        """Inserts sample runs into the ledger, their rows marked as samples, and returns how many."""
        source, inserted = iter(runs), 0
        with translated():
            while part := list(islice(source, AT_ONCE)):
                inserted += len(part)
                # The runs first: by them `clear_runs` finds what an interruption leaves.
                self._runs.insert_many([_run_row(run) for run in part])
                self._batches.insert_many(_batch_rows(part))
                if failed := [row for run in part for row in _failure_rows(run)]:
                    tokens = [row["batch"] for row in failed]
                    self._batch_failures.mark(tokens)
                    self._causes.insert_many([row for run in part for row in _cause_rows(run)])
                    self._failures.insert_many(failed)
                    self._batch_failures.keep(tokens)
        return inserted

    def run_statuses(self) -> dict[str, int]:
        """Counts the sample runs by state."""
        with translated():
            rows = self._runs.aggregate(
                [{"$match": OF_SAMPLES}, {"$group": {"_id": "$status", "n": {"$sum": 1}}}]
            )
            return {str(row["_id"]): int(row["n"]) for row in rows}

    def clear_runs(self) -> int:
        """Removes the sample runs and all that belongs to them from the ledger, and returns how many."""
        deleted = 0
        with translated():
            while ids := [row["_id"] for row in self._runs.find(OF_SAMPLES, {"_id": 1}).limit(1000)]:
                for collection in self._of_runs:
                    collection.delete_many({"run": {"$in": ids}})
                deleted += self._runs.delete_many({"_id": {"$in": ids}}).deleted_count
        return deleted


def _run_row(sample_run: SampleRun) -> dict[str, Any]:
    run = sample_run.run
    times = {
        "createdAt": run.created_at,
        "updatedAt": run.updated_at,
        "startedAt": run.started_at,
        "endedAt": run.ended_at,
    }
    return run_row(run) | times | OF_SAMPLES | {"worked": int(run.worked * 1000), "active": False}


def _batch_rows(runs: Iterable[SampleRun]) -> list[dict[str, Any]]:
    return [
        batch_row(batch) | {"worker": batch.worker, "claimedAt": batch.claimed_at, "settledAt": batch.settled_at} | OF_SAMPLES
        for run in runs
        for batch in run.batches
    ]  # fmt: skip


def _cause_rows(sample_run: SampleRun) -> list[dict[str, Any]]:
    return cause_rows(
        sample_run.run.id, {cause(failure): failure.message for _, failure in sample_run.failures}
    )


def _failure_rows(sample_run: SampleRun) -> list[dict[str, Any]]:
    run = sample_run.run
    return [
        {
            "_id": row_id(run.id, failure.key), "run": run.id, "ns": run.ns, "migration": run.migration,
            "version": run.version, "phase": batch.phase, "kind": str(failure.kind), "type": failure.type, "message": failure.message,
            "code": failure.code, "traceback": failure.traceback, "group": cause(failure).id, "outcome": "failed", "attempt": 1,
            "key": failure.key.document, "batch": batch.token, "firstAt": run.updated_at, "lastAt": run.updated_at, "state": "dead",
            "dueAt": run.updated_at, "resolution": None, **OF_SAMPLES,
        }
        for batch, failure in sample_run.failures
    ]  # fmt: skip
