"""Ledgers that are made directly, as runs would have left them; what bench.scale measures is told here too."""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import psutil
from pymongo import WriteConcern

from whimbrel import Migration
from whimbrel.brokers.ledger import LedgerBroker, LedgerFeed
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.mongo.store import MongoStore
from whimbrel.testing.threads import threads

DATABASE = "scale"
BLOCK = 20_000  # rows in one insert
DEFAULTS = Defaults(batch_size=1000, max_attempts=4, retry_delay=5.0)
IT = Migration(name="scaled", collection="things", update={"$set": {"a": 1}})


def tell(**figures: Any) -> None:
    print(json.dumps(figures, default=str), flush=True)


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def typical(act: Callable[[], object], times: int = 7) -> float:
    """Milliseconds, the median of several."""
    return round(1000 * statistics.median(seconds(act) for _ in range(times)), 1)


def memory() -> float:
    gc.collect()
    return round(psutil.Process().memory_info().rss / 2**20)


def system(store: MongoStore) -> AbstractContextManager[object]:
    return threads(store, [IT], times=Times(), broker=LedgerBroker(), feed=LedgerFeed(), step=lambda _: None)


def ended(store: MongoStore, run: Run) -> Run:
    while True:
        found = store.ledger.runs.get(run.id) or run
        if found.ended_at is not None:
            return found
        time.sleep(0.05)


def at_work(store: MongoStore) -> Run:
    """A run that is running, over one document, without a sweep: that would make batches of its own over all ranges."""
    store.client[DATABASE]["things"].replace_one({"_id": 0}, {"_id": 0}, upsert=True)
    run = start_run(store, IT.definition, who="bench", defaults=DEFAULTS, limit=10**9)
    store.ledger.runs.move(run.id, RunStatus.RUNNING, who="bench")
    return store.ledger.runs.get(run.id) or run


def batch_of(run: Run, seq: int, last: int) -> Batch:
    """A batch of the first phase that is done, of ranges that tile: one document each."""
    return Batch(
        run=run.id, seq=seq, leg=0, phase=run.legs[0], lo=Key.of(seq - 1) if seq > 1 else None,
        cuts=() if seq == last else (Key.of(seq),), last=seq == last, estimated=1000, status=BatchStatus.DONE, claims=1,
        counts=Counts(changed=1000),
    )  # fmt: skip


def put(store: MongoStore, name: str, rows: Iterable[dict[str, Any]]) -> None:
    collection = store.client[DATABASE].get_collection(f"whimbrel_{name}", write_concern=WriteConcern(1))
    page: list[dict[str, Any]] = []
    for row in rows:
        page.append(row)
        if len(page) == BLOCK:
            collection.insert_many(page, ordered=False)
            page = []
    if page:
        collection.insert_many(page, ordered=False)
