"""Sample documents in a database: put in, looked at, taken out."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pymongo import MongoClient
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from whimbrel.mongo.errors import translated
from whimbrel.samples.migration import COLLECTION

BLOCK = 10_000  # documents in one insert
WRITERS = 2


@dataclass(frozen=True, slots=True)
class Census:
    """What the sample documents themselves say after a run."""

    statuses: dict[str, int]
    migrated: int  # successes with the run's token and data.processed
    refused: int  # failed ones whose data is no object: the sample migration cannot migrate them

    @property
    def total(self) -> int:
        return sum(self.statuses.values())


class MongoSamples:
    """The collection of the sample migration in one database."""

    def __init__(self, client: MongoClient[Any], database: str) -> None:
        self._client, self._database = client, client[database]
        self._samples = self._database.get_collection(
            COLLECTION, read_concern=ReadConcern("majority"), write_concern=WriteConcern("majority")
        )

    def drop_database(self) -> None:
        """Everything of the database, the ledger included."""
        with translated():
            self._client.drop_database(self._database.name)

    def insert(self, documents: Iterable[dict[str, Any]]) -> Iterator[int]:
        """Insert documents as they are generated, and the index that the phases use: yields how many are in."""
        with translated():
            self._samples.create_index([("status", 1), ("_id", 1)])
        source, done = iter(documents), 0
        under_way: deque[Future[int]] = deque()
        with ThreadPoolExecutor(WRITERS) as pool:
            while block := list(islice(source, BLOCK)):
                under_way.append(pool.submit(self._insert, block))
                if len(under_way) > WRITERS:
                    yield (done := done + under_way.popleft().result())
            while under_way:
                yield (done := done + under_way.popleft().result())

    def _insert(self, block: list[dict[str, Any]]) -> int:
        with translated():
            return len(self._samples.insert_many(block, ordered=False).inserted_ids)

    def census(self, run_id: str) -> Census:
        """Count the documents after a run, from the documents alone."""
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
