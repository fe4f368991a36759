"""What the dashboard costs over a large ledger: pages, one tab that is open, and clients of the event stream.

python -m bench.dashboard [--batches 100000] [--failures 1000000] [--runs 10000] [--clients 20] [--seconds 20]

A ledger as one large run and many small ones would have left it, and `whimbrel serve` without workers. Of each page: the time until its last byte
(median and worst of several; the client's time is in it), the CPU time of the server's process, and the bytes, packed as browsers ask for
it; in Chromium the bytes until it is loaded, with all its files, and its elements. Then the CPU of the server's process, in per cent of a core, while nobody looks,
while one tab shows each of the pages that move, and while so many clients read the event stream.
"""

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psutil
from playwright.sync_api import Browser, sync_playwright
from tests.servers.chromium import find_chromium
from tests.servers.serve import Serve

from bench.ledgers import DATABASE, put, tell
from bench.scale import seeded
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.run import Run
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.store import MongoStore, connected
from whimbrel.settings import Settings

TIMES = 15  # requests for each page
SETTLING = 3.0  # seconds before CPU time is measured
# Settings that the tests make short, and that are as for everybody here.
SHORTENED = ("retry_delay", "whimbrel_lease", "whimbrel_grace", "whimbrel_statement", "whimbrel_sweep", "whimbrel_idle_poll", "whimbrel_broker_look")  # fmt: skip
USUAL = {name.upper(): str(Settings.model_fields[name].default) for name in SHORTENED}
HTML = {"accept": "text/html", "accept-encoding": "gzip"}


def filled(store: MongoStore, batches: int, failures: int, runs: int) -> Run:
    """One run at work with all the batches and failures, and ended copies of it."""
    run = seeded(store, batches, failures)
    tokens = [f"{run.id}.{seq}" for seq in range(1, batches + 1)]
    kept: Any = store.ledger.failures
    for start in range(0, batches, 1000):
        kept._batch_failures.mark(tokens[start : start + 1000])  # noqa: SLF001
    kept.add_up(run.id)
    rows = store.client[DATABASE]["whimbrel_runs"]
    rows.update_one({"_id": run.id}, {"$set": {"foldedThrough": batches - 50}})
    row = rows.find_one({"_id": run.id}) or {}
    put(store, "runs", _copies(row, runs))
    return run


def _copies(row: dict[str, Any], runs: int) -> Iterator[dict[str, Any]]:
    now = datetime.now(UTC)
    for number in range(runs):
        ended = now - timedelta(minutes=number + 1)
        yield row | {
            "_id": f"20260101-{number:06d}", "status": "completed", "active": False, "createdAt": ended, "startedAt": ended, "endedAt": ended,
            "updatedAt": ended,
        }  # fmt: skip


def pages(run: Run) -> dict[str, str]:
    one = f"/dashboard/runs/{run.id}"
    return {
        "runs": "/", "runs, failed": "/?status=failed,completed_with_failures", "run": one, "causes": f"{one}/causes",
        "batch": f"{one}/batches/1", "start": "/dashboard/start", "health": "/dashboard/health", "workers": "/dashboard/workers",
        "queues": "/dashboard/queues", "schedules": "/dashboard/schedules", "audit": "/dashboard/audit",
    }  # fmt: skip


def page_times(serve: Serve, run: Run) -> None:
    process = psutil.Process(serve.process.pid)
    for name, path in pages(run).items():
        serve.client.get(path, headers=HTML)
        took, cpu = [], _cpu(process)
        for _ in range(TIMES):
            began = time.perf_counter()
            answer = serve.client.get(path, headers=HTML)
            took.append(time.perf_counter() - began)
            assert answer.status_code == 200, (name, answer.status_code, answer.text[:300])
        tell(
            page=name, milliseconds=round(1000 * statistics.median(took), 1), worst=round(1000 * max(took), 1),
            cpu_ms=round(1000 * (_cpu(process) - cpu) / TIMES, 1), bytes=answer.num_bytes_downloaded,
        )  # fmt: skip


def in_a_browser(browser: Browser, serve: Serve, run: Run, seconds: float) -> None:
    process = psutil.Process(serve.process.pid)
    for name, path in pages(run).items():
        context = browser.new_context(base_url=serve.url)
        page, finished = context.new_page(), list[Any]()
        page.on("requestfinished", lambda request, finished=finished: finished.append(request))
        page.goto(path, wait_until="load")
        loaded = sum(map(_size, tuple(finished)))
        tab = busy(process, seconds) if name in ("runs", "run", "health") else None
        elements = page.evaluate("document.querySelectorAll('*').length")
        tell(page=name, bytes_until_loaded=loaded, elements=elements, tab_percent=tab)
        context.close()


def _size(request: Any) -> int:
    sizes = request.sizes()
    return int(sizes["responseBodySize"] + sizes["responseHeadersSize"])


def listeners(serve: Serve, clients: int, seconds: float) -> float:
    """Per cent of a core while so many clients read the event stream."""
    over = threading.Event()
    with ExitStack() as stack:
        for _ in range(clients):
            thread = threading.Thread(target=_listen, args=(serve.url, over), daemon=True)
            thread.start()
        stack.callback(over.set)
        return busy(psutil.Process(serve.process.pid), seconds)


def _listen(url: str, over: threading.Event) -> None:
    with httpx2.Client(base_url=url, timeout=60) as client, client.stream("GET", "/migrate/stream") as answer:
        assert answer.status_code == 200, answer.status_code
        for _ in answer.iter_lines():
            if over.is_set():
                return


def busy(process: psutil.Process, seconds: float) -> float:
    time.sleep(SETTLING)
    before, began = _cpu(process), time.monotonic()
    time.sleep(seconds)
    return round(100 * (_cpu(process) - before) / (time.monotonic() - began), 2)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="bench.dashboard")
    parser.add_argument("--batches", type=int, default=100_000)
    parser.add_argument("--failures", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement of CPU time")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as folder, embedded(Path(folder), cache_gb=4) as uri:  # fmt: skip
        with connected(uri, DATABASE, Times()) as store:
            run = filled(store, options.batches, options.failures, options.runs)
        changes = {"MONGODB_URI": uri, "MONGODB_DB_NAME": DATABASE, **USUAL}
        serve = Serve(changes, Path(folder), "--no-workers")
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        with serve, sync_playwright() as driver:
            serve.wait()
            tell(batches=options.batches, failures=options.failures, runs=options.runs)
            page_times(serve, run)
            tell(nobody_percent=busy(psutil.Process(serve.process.pid), options.seconds))
            for clients in (1, options.clients):
                tell(clients=clients, percent=listeners(serve, clients, options.seconds))
            browser = driver.chromium.launch(executable_path=find_chromium(), args=flags)
            in_a_browser(browser, serve, run, options.seconds)
            browser.close()


if __name__ == "__main__":
    main()
