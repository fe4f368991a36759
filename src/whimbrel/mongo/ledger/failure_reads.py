"""Reads failures for workers and coordinators: keys only where they suffice, a thousand rows at a time where there may be more."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from pymongo.collection import Collection

from whimbrel.domain.bson.raw_bson import Key, keys_under
from whimbrel.domain.failures.failure import (
    DueRetry,
    FailedDocument,
    FailureKind,
    FailureStanding,
    FailureState,
    OpenFailure,
    Unresolved,
)
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.ledger.failure_causes import FailureCauses
from whimbrel.mongo.ledger.failure_counts import RECORDED, UNRESOLVED
from whimbrel.mongo.ledger.failure_lists import FailureLists
from whimbrel.mongo.ledger.failure_sums import FailureSums
from whimbrel.mongo.ledger.rows import (
    STANDING_FIELDS,
    TRIED_FIELDS,
    TROUBLE_FIELDS,
    UNRESOLVED_FIELDS,
    standing_of,
    tried_of,
    trouble_of,
    unresolved_of,
)
from whimbrel.mongo.ranges import within

PASSED = [str(FailureState.PASSED)]
EXCLUDED = [*UNRESOLVED, *PASSED]
PAGE = 1000  # rows that are read or written at once
_CHAIN = ("ns", "migration", "version", "createdAt")


class FailureReads(FailureLists):
    """Implements the reads of `whimbrel.ports.Failures`. `runs`: the collection of runs."""

    def __init__(
        self, collection: Collection[Any], runs: Collection[Any], blocks: FailureSums, causes: FailureCauses
    ) -> None:
        super().__init__(collection, blocks, causes)
        self._runs = runs

    def passed_over(self, run_id: str, token: str) -> Counts:
        pipeline: Sequence[Mapping[str, Any]] = [
            {"$match": {"run": run_id, "batch": token, "state": "passed"}},
            {"$group": {"_id": "$outcome", "n": {"$sum": 1}}},
        ]
        with translated():
            counts = {row["_id"]: int(row["n"]) for row in self._failures.aggregate(pipeline)}
        return Counts(unchanged=counts.get("unchanged", 0), skipped=counts.get("skipped", 0))

    def excluded(self, run_id: str, where: Range | Sequence[Key]) -> Sequence[Key]:
        with translated():
            return [key for page in self._excluded(run_id, where) for key in page]

    def excluded_pages(self, run_id: str) -> Iterator[Sequence[Key]]:
        with translated():
            yield from self._excluded(run_id, Range(None, None))

    def _excluded(self, run_id: str, where: Range | Sequence[Key]) -> Iterator[Sequence[Key]]:
        excluded = {"state": {"$in": EXCLUDED}, **on(where)}
        yield from self._keys({"run": run_id, **excluded})
        run = self._runs.find_one({"_id": run_id, "endedAt": {"$ne": None}}, _CHAIN)
        if run is not None:  # a later run may have met its failures again, and taken them over
            later = {name: run[name] for name in ("ns", "migration", "version")}
            since = {"run": {"$ne": run_id}, "job": "migration", "since": {"$lte": run["createdAt"]}}
            yield from self._keys({**later, **since, **excluded})

    def _keys(self, query: Mapping[str, Any]) -> Iterator[Sequence[Key]]:
        rows = self._failures.find(query, {"_id": 0, "key": 1}).sort("key._id", 1).batch_size(PAGE)
        while page := [Key(row["key"].raw) for row in islice(rows, PAGE)]:
            yield page

    def unresolved(self, run: Run, keys: Sequence[Key]) -> Sequence[Unresolved]:
        query = {**same(run), "state": {"$in": UNRESOLVED}, **on(keys)}
        with translated():
            return [unresolved_of(row) for row in self._failures.find(query, UNRESOLVED_FIELDS)]

    def of_others(self, run: Run, where: Range) -> Iterator[Sequence[Unresolved]]:
        unresolved_elsewhere = {**same(run), "run": {"$ne": run.id}, "state": {"$in": UNRESOLVED}}
        with translated():
            rows = self._failures.find({**unresolved_elsewhere, **on(where)}, UNRESOLVED_FIELDS).batch_size(
                PAGE
            )
            while page := [unresolved_of(row) for row in islice(rows, PAGE)]:
                yield page

    def standings(self, run_id: str, where: Range) -> Iterator[Sequence[FailureStanding]]:
        query = {"run": run_id, "state": {"$in": RECORDED}, **on(where)}
        with translated():
            rows = self._failures.find(query, STANDING_FIELDS).batch_size(PAGE)
            while page := [standing_of(row) for row in islice(rows, PAGE)]:
                yield page

    def of_kinds(self, run_id: str, where: Range, kinds: Sequence[FailureKind]) -> Sequence[FailedDocument]:
        query = {"run": run_id, "kind": {"$in": [str(kind) for kind in kinds]}, "state": {"$in": RECORDED}}
        with translated():
            return [trouble_of(row) for row in self._failures.find({**query, **on(where)}, TROUBLE_FIELDS)]

    def any_open(self, run_id: str) -> bool:
        query = {"run": run_id, "state": str(FailureState.OPEN)}
        with translated():
            return self._failures.find_one(query, {"_id": 1}) is not None

    def next_due(self, run_id: str) -> float | None:
        first: Sequence[Mapping[str, Any]] = [
            {"$match": {"run": run_id, "state": str(FailureState.OPEN)}},
            {"$sort": {"dueAt": 1}},
            {"$limit": 1},
            {"$project": {"_id": 0, "left": {"$subtract": ["$dueAt", "$$NOW"]}}},
        ]
        with translated():
            rows = list(self._failures.aggregate(first))
        return int(rows[0]["left"]) / 1000 if rows else None

    def due(self, run_id: str, limit: int) -> Sequence[DueRetry]:
        query = {"run": run_id, "state": "open", "$expr": {"$lte": ["$dueAt", "$$NOW"]}}
        with translated():
            rows = self._failures.find(query, {"_id": 0, "key": 1, "kind": 1}).sort("dueAt", 1).limit(limit)
            due = [DueRetry(Key(row["key"].raw), FailureKind(row["kind"])) for row in rows]
        return sorted(due, key=lambda retry: retry.key.raw)

    def tried(self, run_id: str, keys: Sequence[Key]) -> Sequence[OpenFailure]:
        query = {"run": run_id, "state": "open", **on(keys)}
        with translated():
            return [tried_of(row) for row in self._failures.find(query, TRIED_FIELDS)]


def same(run: Run) -> dict[str, Any]:
    """Selects the rows of all runs of this migration and version on this collection."""
    return {"ns": run.ns, "migration": run.migration, "version": run.version}


def on(where: Range | Sequence[Key]) -> dict[str, Any]:
    """Selects the rows of these documents."""
    if not isinstance(where, Range):
        return {"key._id": keys_under("$in", where)}
    return within({}, where, field="key._id")
