"""What the ledger costs at size, and what a run of any size takes: the figures of docs/scale.md.

python -m bench.scale [--parts ledger,claims,shares,memory,failing,page] [--batches 100000] [--failures 1000000] [--millions 0.2,1,10] [--failing 1000000]

- ledger: a run of so many batches and failures, put into the ledger as it would have been left: what status, a tick, the lists of failures
  and recording take beside it; then its finish, a retry of all its failures, and its removal.
- claims: claims a second of 1, 4, 16 and 48 claimers of one run.
- shares: the part of a run's time that planning and settling take.
- memory: the largest resident set of each process of runs over more and more documents, one of each killed in the middle and resumed.
- failing: a run in which every document fails.
- page: what a page about a run with so many batches costs, and what writing the run's course costs.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from bench.claiming import claims, shares
from bench.course import page_of_a_run
from bench.ledgers import DATABASE, at_work, batch_of, ended, memory, put, seconds, system, tell, typical
from bench.millions import Millions, note_memory, report
from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind, FailureState
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.coordinating.coordinator import Coordinator
from whimbrel.engine.housekeeping import prune
from whimbrel.engine.operating.run_view import view
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.ledger.failure_rows import first_row
from whimbrel.mongo.ledger.rows import batch_row
from whimbrel.mongo.store import MongoStore, connected

CAUSES = 7  # of the failures
RECORDED = 20_000  # failures that are recorded beside them
FAILING = """
from whimbrel import migration
@migration(collection="numbers", max_attempts=1)
def failing(document):
    raise ValueError(f"{document['n']} of {document['_id']} is bad")
"""


def trouble(key: int) -> FailedDocument:
    message, place = f"{key} is bad", f"file.py:{key % CAUSES} in f"
    return FailedDocument(
        key=Key.of(key), kind=FailureKind.CODE, type="ValueError", message=message, place=place
    )


def seeded(store: MongoStore, batches: int, failures: int) -> Run:
    """A run whose batches are done, each with its part of the failures: as workers would have left it."""
    run, each, now = at_work(store), failures // batches, datetime.now(UTC) - timedelta(hours=1)
    worker = {"worker": "bench", "claimedAt": now, "settledAt": now, "owner": None}
    numbers = range(1, batches + 1)
    put(store, "batches", (batch_row(batch_of(run, seq, batches)) | worker for seq in numbers))
    known: Any = store.ledger.failures
    groups = known._causes.groups(run.id, [trouble(key) for key in range(CAUSES)])  # noqa: SLF001
    dead = replace(run, max_attempts=1)
    rows = (
        first_row(dead, batch, trouble(key), groups[key % CAUSES], now=now, since=now)
        for batch in (batch_of(run, seq, batches) for seq in numbers)
        for key in range(batch.seq * each, (batch.seq + 1) * each)
    )
    put(store, "failures", rows)
    return run


def bytes_of(store: MongoStore, name: str) -> tuple[int, int]:
    """Of a row, and of its entries in indexes."""
    store.client.admin.command("fsync")  # sizes of indexes are those of the last checkpoint
    found = store.client[DATABASE].command("collStats", f"whimbrel_{name}")
    return round(found["avgObjSize"]), round(found["totalIndexSize"] / found["count"])


def ledger_at_size(store: MongoStore, batches: int, failures: int) -> None:
    run = seeded(store, batches, failures)
    ledger, kept = store.ledger, store.ledger.failures
    folded = replace(run, folded_through=batches - 50)  # as ticks keep it
    batch_failures: Any = kept._batch_failures  # type: ignore[attr-defined]  # noqa: SLF001
    tokens = [f"{run.id}.{seq}" for seq in range(1, batches + 1)]
    counting = seconds(partial(batch_failures.mark, tokens)) + seconds(partial(kept.add_up, run.id))
    first = kept.list(run.id, limit=100)
    middle = kept.list(run.id, limit=1000, group=first[0].group)[-1].place
    tell(
        part="ledger", batches=batches, failures=failures, counted_again_seconds=round(counting, 1),
        status_ms=typical(lambda: view(ledger, folded)), counts_ms=typical(lambda: kept.counts(run.id)),
        groups_ms=typical(lambda: kept.groups(run.id, limit=10)), first_page_ms=typical(lambda: kept.list(run.id, limit=100)),
        a_later_page_ms=typical(lambda: kept.list(run.id, limit=100, after=middle)),
        open_ones_ms=typical(lambda: kept.list(run.id, state=FailureState.OPEN, limit=100)),
        by_worker_ms=typical(lambda: kept.by_worker(["bench"])),
        bytes_a_batch=bytes_of(store, "batches"), bytes_a_failure=bytes_of(store, "failures"),
    )  # fmt: skip
    recording(store, folded, batches)
    finish(store, run)
    tell(part="ledger", what="retry of all", seconds=round(seconds(lambda: kept.reopen(run.id)), 1))
    tell(part="ledger", what="removal", **removed(store, run))


def recording(store: MongoStore, run: Run, batches: int) -> None:
    """Fresh failures, 1,000 at a time, by one process, in a batch that it holds."""
    batch = replace(batch_of(run, batches + 1, 0), status=BatchStatus.QUEUED)
    store.ledger.batches.add([batch])
    claimed = store.ledger.batches.claim([run.id], worker="bench", lsid=b"0" * 16)
    assert claimed is not None
    pages = [[trouble(10**9 + at + key) for key in range(1000)] for at in range(0, RECORDED, 1000)]
    took = sum(seconds(partial(store.ledger.failures.record, run, claimed, page)) for page in pages)
    status = typical(lambda: view(store.ledger, run))
    store.ledger.batches.settle(claimed, Counts())
    store.client[DATABASE]["whimbrel_batches"].delete_one({"_id": batch.token})
    store.client[DATABASE]["whimbrel_failures"].delete_many({"batch": batch.token})
    tell(part="ledger", recorded_a_second=round(RECORDED / took), status_beside_it_ms=status)


def finish(store: MongoStore, run: Run) -> None:
    """From the moment when all batches of a run are done and none is added up, until it ends: folding, and the look at all ranges."""
    ticks: list[float] = []
    act = Coordinator.tick

    def tick(coordinator: Coordinator) -> None:
        ticks.append(seconds(partial(act, coordinator)))

    with mock.patch.object(Coordinator, "tick", tick), system(store):
        row = ended(store, run)
    tell(
        part="ledger", what="finish", status=row.status, message=row.message, ticks=len(ticks), seconds_of_ticks=round(sum(ticks), 2),
        typical_tick_ms=round(1000 * statistics.median(ticks), 1), longest_tick_ms=round(1000 * max(ticks), 1),
    )  # fmt: skip


def removed(store: MongoStore, run: Run) -> dict[str, Any]:
    """What pruning takes, in slices of a second, when nobody needs the run any more."""
    ended_at = datetime.now(UTC) - timedelta(days=100)
    store.client[DATABASE]["whimbrel_runs"].update_one(
        {"_id": run.id}, {"$set": {"endedAt": ended_at, "status": "completed"}}
    )
    slices, rows, more = list[float](), 0, True
    with mock.patch.object(prune, "_why_kept", return_value=""):
        while more:
            began = time.perf_counter()
            found = prune.prune(store.ledger, 90, seconds=1, who="bench")
            slices.append(time.perf_counter() - began)
            rows, more = rows + found.batches + found.failures, found.more
    return {"rows": rows, "seconds": round(sum(slices), 1), "longest_slice_seconds": round(max(slices), 2)}


# whole runs


def failing(uri: str, millions: Millions, count: int, home: Path) -> None:
    (home / "file.py").write_text(FAILING)
    millions.seed(count)
    found, statuses = dict[str, float](), list[float]()
    began = time.perf_counter()
    with (
        millions.started("run", "failing", "--yes") as process,
        connected(uri, "millions", Times()) as store,
    ):
        while process.poll() is None:
            note_memory(process.pid, found)
            for run in store.ledger.runs.list(limit=1):
                statuses.append(1000 * seconds(partial(view, store.ledger, run)))
            time.sleep(1)
    took = time.perf_counter() - began
    row = millions.database["whimbrel_runs"].find_one({}) or {}
    tell(
        part="failing", documents=count, status=row.get("status"),
        rows=millions.database["whimbrel_failures"].count_documents({"state": "dead"}), seconds=round(took, 1),
        a_second=round(count / took), peak_mb={name: round(peak) for name, peak in found.items()},
        status_ms=round(statistics.median(statuses), 1), slowest_status_ms=round(max(statuses), 1),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.scale")
    parser.add_argument("--parts", default="ledger,claims,shares,memory,failing,page")
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--failures", type=int, default=1_000_000)
    parser.add_argument("--millions", default="0.2,1,10")
    parser.add_argument("--failing", type=int, default=1_000_000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as folder,
        embedded(Path(folder), cache_gb=4) as uri,
    ):
        parts, home = options.parts.split(","), Path(folder)
        with connected(uri, DATABASE, Times()) as store:
            if "ledger" in parts:
                ledger_at_size(store, options.batches, options.failures)
                tell(part="ledger", what="this process", mb=memory())
                store.client.drop_database(DATABASE)
        if "page" in parts:
            with connected(uri, DATABASE, Times()) as store:
                page_of_a_run(store, options.batches)
                store.client.drop_database(DATABASE)
        with connected(uri, DATABASE, Times()) as store:
            if "claims" in parts:
                claims(uri, store)
            if "shares" in parts:
                shares(store)
            store.client.drop_database(DATABASE)
        millions = Millions(uri, home)
        if "memory" in parts:
            for size in map(float, options.millions.split(",")):
                count = int(size * 1_000_000)
                millions.seed(count)
                bare = millions.bare()
                for name in ("declared", "function"):
                    report(millions, name, count, bare, kill=True)
        if "failing" in parts:
            failing(uri, millions, options.failing, home)


if __name__ == "__main__":
    main()
