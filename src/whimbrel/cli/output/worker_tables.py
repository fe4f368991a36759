"""Builds the table and the JSON objects of workers."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from whimbrel.cli.output.fact_tables import FactTable
from whimbrel.cli.output.progress_bar import clock
from whimbrel.cli.output.terminal_text import Text, local_time
from whimbrel.domain.runs.workers import Worker
from whimbrel.engine.operating.run_view import iso_time


def workers_table(workers: Iterable[Worker], now: datetime) -> FactTable:
    table = FactTable(
        ("host", "pid", "slots", "batches done", "at work on", "up since", "refuses"),
        right=("pid", "slots", "batches done"), title="Workers",
    )  # fmt: skip
    for worker in workers:
        at_work = ["loads the migrations"] * worker.loading
        at_work += [f"{batch.batch} for {clock(_seconds(batch.since, now))}" for batch in worker.in_hand]
        refuses = [
            f"run {refusal.run}: its code is {refusal.pinned}, here {refusal.here}"
            for refusal in worker.refuses
        ]
        table.add(
            worker.host, str(worker.pid), str(worker.slots), f"{worker.done:,}", "\n".join(at_work),
            local_time(worker.started_at), Text("\n".join(refuses), style="yellow"),
        )  # fmt: skip
    return table


def _seconds(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since else 0.0


def worker_object(worker: Worker) -> dict[str, Any]:
    return {
        "name": worker.name, "host": worker.host, "pid": worker.pid, "version": worker.version, "slots": worker.slots, "only": worker.only,
        "code": worker.code, "batchesDone": worker.done,
        "current": [{"batch": batch.batch, "since": iso_time(batch.since)} for batch in worker.in_hand],
        "refuses": [{"run": refusal.run, "pinned": refusal.pinned, "here": refusal.here} for refusal in worker.refuses],
        "startedAt": iso_time(worker.started_at), "seenAt": iso_time(worker.seen_at),
    }  # fmt: skip
