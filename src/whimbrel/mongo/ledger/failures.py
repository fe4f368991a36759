"""Failures: one row for each run and document; the truth about a document that failed (hole H21).

Rows in state "passed" are no failures: they remember what was skipped or unchanged under the mark
"filter", where documents cannot say so themselves (hole H2).
"""

import random
from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import UpdateOne
from pymongo.collection import Collection

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.failures import (
    Failure,
    FailureGroup,
    FailureState,
    Kind,
    Trouble,
    backoff,
    is_dead,
    signature,
)
from whimbrel.domain.raw import Key, keys_under
from whimbrel.domain.runs import Counts, Run
from whimbrel.mongo.codec import failure_of
from whimbrel.mongo.errors import translated
from whimbrel.mongo.ranges import within

UNRESOLVED = [str(FailureState.OPEN), str(FailureState.DEAD)]
EXCLUDED = [*UNRESOLVED, str(FailureState.PASSED)]


class MongoFailures:
    """See `whimbrel.ports.Failures`."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._failures = collection

    def create_indexes(self) -> None:
        self._failures.create_index([("run", 1), ("key._id", 1)])
        self._failures.create_index([("ns", 1), ("key._id", 1)])
        self._failures.create_index([("run", 1), ("state", 1), ("dueAt", 1)])
        self._failures.create_index([("run", 1), ("signature", 1), ("key._id", 1)])
        self._failures.create_index([("run", 1), ("batch", 1)])

    def record(self, run: Run, batch: Batch, troubles: Sequence[Trouble]) -> None:
        if troubles:
            with translated():
                self._failures.bulk_write([_upsert(run, batch, each) for each in troubles], ordered=False)

    def pass_over(self, run: Run, batch: Batch, outcomes: Mapping[Key, str]) -> None:
        rows = [
            UpdateOne(
                {"_id": {"r": run.id, "d": key.document}},
                {
                    "$set": {
                        "run": run.id,
                        "ns": run.ns,
                        "key": key.document,
                        "batch": batch.token,
                        "state": "passed",
                        "outcome": outcome,
                    }
                },
                upsert=True,
            )
            for key, outcome in outcomes.items()
        ]
        if rows:
            with translated():
                self._failures.bulk_write(rows, ordered=False)

    def passed(self, run_id: str, token: str) -> Counts:
        pipeline: Sequence[Mapping[str, Any]] = [
            {"$match": {"run": run_id, "batch": token, "state": "passed"}},
            {"$group": {"_id": "$outcome", "n": {"$sum": 1}}},
        ]
        with translated():
            found = {row["_id"]: int(row["n"]) for row in self._failures.aggregate(pipeline)}
        return Counts(unchanged=found.get("unchanged", 0), skipped=found.get("skipped", 0))

    def excluded(self, run_id: str, where: Range | Sequence[Key]) -> Sequence[Key]:
        query = {"run": run_id, "state": {"$in": EXCLUDED}, **_within(where)}
        with translated():
            return [Key(row["key"].raw) for row in self._failures.find(query, {"key": 1}).sort("key._id", 1)]

    def unresolved(self, run: Run, where: Range | Sequence[Key]) -> Sequence[Failure]:
        same = {"ns": run.ns, "migration": run.migration, "version": run.version}
        query = {**same, "state": {"$in": UNRESOLVED}, **_within(where)}
        with translated():
            return [failure_of(row) for row in self._failures.find(query)]

    def resolve(self, failures: Sequence[Failure], resolution: str) -> None:
        if failures:
            with translated():
                self._failures.update_many(
                    {"_id": {"$in": [{"r": each.run, "d": each.key.document} for each in failures]}},
                    {
                        "$set": {"state": "resolved", "resolution": resolution},
                        "$currentDate": {"lastAt": True},
                    },
                )

    def within(self, run_id: str, where: Range) -> Sequence[Failure]:
        query = {"run": run_id, "state": {"$ne": str(FailureState.PASSED)}, **_within(where)}
        with translated():
            return [failure_of(row) for row in self._failures.find(query)]

    def withdraw(self, run_id: str, type_: str) -> None:
        with translated():
            self._failures.delete_many({"run": run_id, "type": type_})

    def due(self, run_id: str, limit: int) -> Sequence[Failure]:
        query = {"run": run_id, "state": "open", "$expr": {"$lte": ["$dueAt", "$$NOW"]}}
        with translated():
            return [failure_of(row) for row in self._failures.find(query).sort("key._id", 1).limit(limit)]

    def of(self, run_id: str, keys: Sequence[Key]) -> Sequence[Failure]:
        query = {"run": run_id, "state": "open", **_within(keys)}
        with translated():
            return [failure_of(row) for row in self._failures.find(query)]

    def counts(self, run_id: str) -> dict[str, int]:
        pipeline: Sequence[Mapping[str, Any]] = [
            {"$match": {"run": run_id, "state": {"$in": UNRESOLVED}}},
            {"$group": {"_id": {"state": "$state", "outcome": "$outcome"}, "n": {"$sum": 1}}},
        ]
        counts = {"open": 0, "dead": 0, "failed": 0, "conflict": 0}
        with translated():
            for row in self._failures.aggregate(pipeline):
                counts[row["_id"]["state"]] += row["n"]
                counts[row["_id"]["outcome"]] += row["n"]
        return counts

    def failed_batches(self, run_id: str) -> int:
        pipeline: Sequence[Mapping[str, Any]] = [
            {"$match": {"run": run_id, "state": {"$in": UNRESOLVED}}},
            {"$group": {"_id": "$batch"}},
            {"$count": "n"},
        ]
        with translated():
            found = list(self._failures.aggregate(pipeline))
        return int(found[0]["n"]) if found else 0

    def groups(self, run_id: str, limit: int = 50) -> Sequence[FailureGroup]:
        def having(state: str) -> dict[str, Any]:
            return {"$sum": {"$cond": [{"$eq": ["$state", state]}, 1, 0]}}

        pipeline: list[Mapping[str, Any]] = [
            {"$match": {"run": run_id, "state": {"$ne": "passed"}}},
            {
                "$group": {
                    "_id": "$signature", "kind": {"$first": "$kind"}, "type": {"$first": "$type"},
                    "message": {"$first": "$message"}, "example": {"$first": "$key"},
                    "open": having("open"), "dead": having("dead"), "resolved": having("resolved"), "n": {"$sum": 1},
                }
            },
            {"$sort": {"n": -1, "_id": 1}},
            {"$limit": limit},
        ]  # fmt: skip
        with translated():
            return [
                FailureGroup(
                    row["_id"], row["kind"], row["type"], row["message"], row["open"], row["dead"], row["resolved"],
                    Key(row["example"].raw),
                )
                for row in self._failures.aggregate(pipeline)
            ]  # fmt: skip

    def list(self, run_id: str, *, signature: str | None = None, limit: int = 100) -> list[Failure]:
        query: dict[str, Any] = {"run": run_id, "state": {"$ne": "passed"}}
        if signature is not None:
            query["signature"] = signature
        with translated():
            return [failure_of(row) for row in self._failures.find(query).sort("key._id", 1).limit(limit)]

    def reopen(self, run_id: str, *, signature: str | None = None) -> int:
        query = {"run": run_id, "state": "dead", **({"signature": signature} if signature else {})}
        with translated():
            found = self._failures.update_many(
                query, [{"$set": {"state": "open", "attempt": 0, "dueAt": "$$NOW"}}]
            )
        return found.modified_count


def _within(where: Range | Sequence[Key]) -> dict[str, Any]:
    if not isinstance(where, Range):
        return {"key._id": keys_under("$in", where)}
    return within({}, where, field="key._id")


def _upsert(run: Run, batch: Batch, trouble: Trouble) -> UpdateOne:
    """One attempt more, unless this batch has recorded it already: a batch may be worked through again."""
    attempt = {
        "$cond": [{"$eq": ["$batch", batch.token]}, "$attempt", {"$add": [{"$ifNull": ["$attempt", 0]}, 1]}]
    }
    # The backoff of each possible attempt; the row alone knows which one this is.
    jitter = random.random()  # noqa: S311  spreads retries, protects nothing
    delays = [int(backoff(n, run.retry_delay, jitter) * 1000) for n in range(1, run.max_attempts + 1)]
    delay = {"$arrayElemAt": [delays, {"$min": [{"$subtract": ["$attempt", 1]}, len(delays) - 1]}]}
    dead = trouble.kind is Kind.DATA or is_dead(trouble, 1, run.max_attempts)
    state: Any = "dead" if dead else {"$cond": [{"$gte": ["$attempt", run.max_attempts]}, "dead", "open"]}
    facts = {
        "run": run.id, "ns": run.ns, "migration": run.migration, "version": run.version, "phase": batch.phase, "kind": str(trouble.kind),
        "type": trouble.type, "message": trouble.message, "code": trouble.code, "traceback": trouble.traceback,
        "signature": signature(trouble), "outcome": "conflict" if trouble.kind is Kind.CONFLICT else "failed",
    }  # fmt: skip
    return UpdateOne(
        {"_id": {"r": run.id, "d": trouble.key.document}},
        [
            {"$set": {"attempt": attempt}},
            {
                "$set": {
                    "key": {"$literal": trouble.key.document}, "batch": batch.token,
                    "firstAt": {"$ifNull": ["$firstAt", "$$NOW"]}, "lastAt": "$$NOW",
                    "state": state, "dueAt": {"$add": ["$$NOW", delay]}, "resolution": None,
                    **{name: {"$literal": value} for name, value in facts.items()},
                }
            },
        ],
        upsert=True,
    )  # fmt: skip
