"""Builds the row of a document's failure: for its first attempt, and for another attempt."""

import random
from datetime import datetime, timedelta
from typing import Any

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind, backoff, is_dead
from whimbrel.domain.failures.retry_policy import attempts_of
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run


def first_row(
    run: Run, batch: Batch, failure: FailedDocument, group: str, *, now: datetime, since: datetime
) -> dict[str, Any]:
    """Returns the row of a first attempt. `group`: of its cause. `now`: by the server's clock.

    `since`: when the first of the consecutive runs that met it began.
    """
    dead = is_dead(failure, 1, run.max_attempts)
    return {
        "_id": row_id(run.id, failure.key), "attempt": 1, "key": failure.key.document, "batch": batch.token, "since": since,
        "firstAt": now, "lastAt": now, "state": "dead" if dead else "open", "resolution": None,
        "dueAt": now + timedelta(seconds=backoff(1, run.retry_delay, _jitter(), failure.kind)), **_facts(run, batch, failure, group),
    }  # fmt: skip


def another_attempt(run: Run, batch: Batch, failure: FailedDocument, group: str) -> list[dict[str, Any]]:
    """Returns the update that adds one attempt, unless this batch has recorded it already: a batch may be executed again."""
    before = {"$ifNull": ["$attempt", 0]}
    attempt = {"$cond": [{"$eq": ["$batch", batch.token]}, {"$max": [before, 1]}, {"$add": [before, 1]}]}
    # The backoff of each possible attempt; only the row knows which one this is.
    jitter = _jitter()
    delays = [
        int(backoff(attempt_number, run.retry_delay, jitter, failure.kind) * 1000)
        for attempt_number in range(1, run.max_attempts + 1)
    ]
    delay = {"$arrayElemAt": [delays, {"$min": [{"$subtract": ["$attempt", 1]}, len(delays) - 1]}]}
    attempts = attempts_of(failure.kind, run.max_attempts, final=failure.final)
    state = {"$cond": [{"$gte": ["$attempt", attempts]}, "dead", "open"]}
    return [
        {"$set": {"attempt": attempt}},
        {
            "$set": {
                "key": {"$literal": failure.key.document}, "batch": batch.token,
                "since": {"$ifNull": ["$since", run.created_at]}, "firstAt": {"$ifNull": ["$firstAt", "$$NOW"]}, "lastAt": "$$NOW",
                "state": state, "dueAt": {"$add": ["$$NOW", delay]}, "resolution": None,
                **{name: {"$literal": value} for name, value in _facts(run, batch, failure, group).items()},
            }
        },
    ]  # fmt: skip


def row_id(run_id: str, key: Key) -> dict[str, Any]:
    return {"r": run_id, "d": key.document}


def _facts(run: Run, batch: Batch, failure: FailedDocument, group: str) -> dict[str, Any]:
    return {
        "run": run.id, "job": run.kind, "ns": run.ns, "migration": run.migration, "version": run.version, "phase": batch.phase, "kind": str(failure.kind),
        "type": failure.type, "message": failure.message, "code": failure.code, "traceback": failure.traceback,
        "group": group, "outcome": "conflict" if failure.kind is FailureKind.CONFLICT else "failed",
    }  # fmt: skip


def _jitter() -> float:
    return random.random()  # noqa: S311  spreads retries, protects nothing
