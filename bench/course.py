"""What a page about a run costs the ledger, and what writing a run's course costs the run: a part of bench.scale."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from bench.ledgers import DATABASE, at_work, batch_of, put, tell, typical
from whimbrel.domain.runs import series as course
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.series import MOST, Point, Spark, Totals
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.operating.keyspace_view import strip_object, strip_of
from whimbrel.engine.operating.run_view import views
from whimbrel.engine.operating.series_view import course_object, course_of, sparks_of
from whimbrel.engine.operating.slots_view import slots_object
from whimbrel.mongo.ledger.rows import batch_row
from whimbrel.mongo.store import MongoStore
from whimbrel.ports.series import SeriesChange

WRITES = 2000
OPEN = 1600  # batches that wait: the window of 400 slots
TIMES = ChunkTimes((3, 9, 20, 8, 2, 0, 0, 0, 0), 12.0)


def page_of_a_run(store: MongoStore, batches: int) -> None:
    """Every second batch of so many has failures, the last wait; its course is as long as it may be."""
    run = at_work(store)
    put(store, "batches", (_row(run, seq, batches) for seq in range(1, batches + 1)))
    blocks = (
        {"_id": {"r": run.id, "b": block}, "run": run.id, "block": block, "marked": True, "marks": 1}
        for block in range(batches // 1000 + 1)
    )
    put(store, "blocks", blocks)
    store.ledger.failures.add_up(run.id)
    folded = {"foldedThrough": batches - OPEN, "createdAt": datetime.now(UTC) - timedelta(days=1)}
    store.client[DATABASE]["whimbrel_runs"].update_one({"_id": run.id}, {"$set": folded})
    run = store.ledger.runs.get(run.id) or run
    _measure_writes(store, run)
    for cells in (1000, 10_000):
        before = _cpu(store)
        took = typical(lambda cells=cells: strip_object(strip_of(store.ledger, run, cells=cells)))
        tell(what="key space", batches=batches, cells=cells, milliseconds=took, answer_bytes=len(json.dumps(strip_object(strip_of(store.ledger, run, cells=cells)))), mongod_cpu_ms=_cpu(store) - before)  # fmt: skip
    tell(what="course, 720 points", milliseconds=typical(lambda: course_object(run, course_of(store.ledger, run, points=MOST))), answer_bytes=len(json.dumps(course_object(run, course_of(store.ledger, run, points=MOST)))))  # fmt: skip
    tell(what="slots", milliseconds=typical(lambda: slots_object(store.ledger, run)))
    run_views = views(store.ledger, [run])
    tell(what="sparklines of a run", milliseconds=typical(lambda: sparks_of(store.ledger, run_views)))
    row = store.client[DATABASE].command("aggregate", "whimbrel_series", pipeline=[{"$project": {"size": {"$bsonSize": "$$ROOT"}}}], cursor={})  # fmt: skip
    tell(what="row of a course", bytes=row["cursor"]["firstBatch"][0]["size"])


def _row(run: Run, seq: int, batches: int) -> dict[str, Any]:
    row = batch_row(batch_of(run, seq, batches)) | {"through": seq * 1000}
    if seq > batches - OPEN:
        return row | {"status": str(BatchStatus.QUEUED)}
    return row | ({"failing": {"n": 1, "open": 0, "conflict": 0, "marks": 1}} if seq % 2 else {})


def _measure_writes(store: MongoStore, run: Run) -> None:
    """Writes as a coordinator does, into a row that has as many points as there may be."""
    began = datetime.now(UTC).timestamp() - 5.0 * WRITES
    points = [
        Point(began + 5.0 * place, began + 5.0 * place + 5.0, 5.0, 60_000, 0, 5.0, TIMES)
        for place in range(MOST)
    ]
    change = SeriesChange(seen=Totals(began), width=course.WIDTH, points=points)
    store.ledger.series.write(run.id, change, seen=0)
    entries, size = _oplog(store)
    cpu, server, clock = time.process_time(), _cpu(store), time.perf_counter()
    for number in range(1, WRITES + 1):
        at = began + 5.0 * number
        change = SeriesChange(
            seen=Totals(at, 5.0 * number, 60_000 * number, 0, TIMES), width=course.WIDTH, point=(MOST - 1, points[number % MOST]),
            spark=Spark(int(at // course.SPARK_SECONDS), 60_000, 5.0),
        )  # fmt: skip
        store.ledger.series.write(run.id, change, seen=number)
    later, size_later = _oplog(store)
    tell(
        what="a write of a course", milliseconds=round(1000 * (time.perf_counter() - clock) / WRITES, 2),
        cpu_ms=round(1000 * (time.process_time() - cpu) / WRITES, 3), mongod_cpu_ms=round((_cpu(store) - server) / WRITES, 3),
        oplog_bytes=round((size_later - size) / max(1, later - entries)), seconds_between_two=5,
    )  # fmt: skip


def _oplog(store: MongoStore) -> tuple[int, int]:
    found = store.client["local"].command("collStats", "oplog.rs")
    return found["count"], found["size"]


def _cpu(store: MongoStore) -> float:
    """Milliseconds of a core that the server has used."""
    pid = store.client.admin.command("serverStatus")["pid"]
    fields = open(f"/proc/{pid}/stat").read().rpartition(") ")[2].split()  # noqa: SIM115, PTH123
    return 1000 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
