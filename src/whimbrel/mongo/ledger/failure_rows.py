"""The row of a document's failure: its first attempt, and one attempt more."""

import random
from datetime import datetime, timedelta
from typing import Any

from pymongo import UpdateOne

from whimbrel.domain.failures.failure import FailedDocument, FailureKind, backoff, is_dead
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run


def first_row(
    run: Run, batch: Batch, trouble: FailedDocument, group: str, *, now: datetime, since: datetime
) -> dict[str, Any]:
    """`group`: of its cause. `now`: by the server's clock. `since`: when the first of the runs began that have met it, one after the other."""
    dead = is_dead(trouble, 1, run.max_attempts)
    return {
        "_id": _id(run, trouble), "attempt": 1, "key": trouble.key.document, "batch": batch.token, "since": since,
        "firstAt": now, "lastAt": now, "state": "dead" if dead else "open", "resolution": None,
        "dueAt": now + timedelta(seconds=backoff(1, run.retry_delay, _jitter())), **_facts(run, batch, trouble, group),
    }  # fmt: skip


def one_more(run: Run, batch: Batch, trouble: FailedDocument, group: str) -> UpdateOne:
    """One attempt more, unless this batch has recorded it already: a batch may be worked through again."""
    attempt = {
        "$cond": [{"$eq": ["$batch", batch.token]}, "$attempt", {"$add": [{"$ifNull": ["$attempt", 0]}, 1]}]
    }
    # The backoff of each possible attempt; the row alone knows which one this is.
    jitter = _jitter()
    delays = [int(backoff(n, run.retry_delay, jitter) * 1000) for n in range(1, run.max_attempts + 1)]
    delay = {"$arrayElemAt": [delays, {"$min": [{"$subtract": ["$attempt", 1]}, len(delays) - 1]}]}
    dead = is_dead(trouble, 1, run.max_attempts)
    state: Any = "dead" if dead else {"$cond": [{"$gte": ["$attempt", run.max_attempts]}, "dead", "open"]}
    return UpdateOne(
        {"_id": _id(run, trouble)},
        [
            {"$set": {"attempt": attempt}},
            {
                "$set": {
                    "key": {"$literal": trouble.key.document}, "batch": batch.token,
                    "since": {"$ifNull": ["$since", run.created_at]}, "firstAt": {"$ifNull": ["$firstAt", "$$NOW"]}, "lastAt": "$$NOW",
                    "state": state, "dueAt": {"$add": ["$$NOW", delay]}, "resolution": None,
                    **{name: {"$literal": value} for name, value in _facts(run, batch, trouble, group).items()},
                }
            },
        ],
        upsert=True,
    )  # fmt: skip


def _id(run: Run, trouble: FailedDocument) -> dict[str, Any]:
    return {"r": run.id, "d": trouble.key.document}


def _facts(run: Run, batch: Batch, trouble: FailedDocument, group: str) -> dict[str, Any]:
    return {
        "run": run.id, "job": run.kind, "ns": run.ns, "migration": run.migration, "version": run.version, "phase": batch.phase, "kind": str(trouble.kind),
        "type": trouble.type, "message": trouble.message, "code": trouble.code, "traceback": trouble.traceback,
        "group": group, "outcome": "conflict" if trouble.kind is FailureKind.CONFLICT else "failed",
    }  # fmt: skip


def _jitter() -> float:
    return random.random()  # noqa: S311  spreads retries, protects nothing
