"""How fast the API answers while documents are migrated, and what that costs the migration.

python -m bench.api [--documents 2000000] [--rounds 5] [--rate 50] [--migration declarative] [--pace DOCUMENTS_A_SECOND]

`whimbrel serve` with its own workers, as a user starts it, over one mongod. A round is a pair of runs, each over documents
seeded for it and started by POST /migrate: one without other requests, one under a steady load of them, spread evenly over the
three routes; the order of the two changes with each round. `--pace` limits the runs, which leaves cores to spare.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
from tests.servers.processes import Child, free_ports

from bench.load import Answers, Load
from bench.system import MIGRATIONS, SLOTS, WORKERS, Bench
from whimbrel.bootstrap import store_at
from whimbrel.domain.runs.run import Run
from whimbrel.mongo.embedded import embedded
from whimbrel.settings import Settings

ROUTES = ("/health", "/migrate/status/{id}", "/queue/stats")
STARTING = 120.0  # seconds


@dataclass(frozen=True)
class Serving:
    """A `whimbrel serve` whose workers are warm, what it migrates, and how it is asked."""

    bench: Bench
    client: httpx2.Client
    rate: float
    body: dict[str, Any]

    def start(self) -> Run:
        answer = self.client.post("/migrate", json=self.body)
        assert answer.status_code == 202, answer.text
        run = self.bench.store.ledger.runs.get(answer.json()["migrationId"])
        assert run is not None
        return run

    def alone(self) -> float:
        """Seconds of a migration that nobody asks about."""
        self.bench.seed()
        return self.bench.timed(self.start)[0]

    def under_load(self) -> tuple[float, list[Answers], float]:
        """Seconds of a migration, the answers meanwhile, and how many cores were busy."""
        self.bench.seed()
        with Load(str(self.client.base_url), self.rate) as load:

            def start() -> Run:
                run = self.start()
                load.begin(paths(run.id))
                psutil.cpu_percent()
                return run

            seconds, _ = self.bench.timed(start)
            busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
            return seconds, load.end(), busy

    def idle(self, seconds: float) -> list[Answers]:
        """The answers while nothing is migrated, about the newest run."""
        newest = self.bench.store.ledger.runs.list(limit=1)[0]
        with Load(str(self.client.base_url), self.rate) as load:
            load.begin(paths(newest.id))
            time.sleep(seconds)
            return load.end()


def paths(run_id: str) -> list[str]:
    return [route.format(id=run_id) for route in ROUTES]


@contextmanager
def serving(uri: str, database: str, home: Path) -> Iterator[httpx2.Client]:
    """The server, with default settings but for its addresses, until every slot of its workers is alive."""
    (port,) = free_ports(1)
    known = {name.upper() for name in Settings.model_fields}
    environment = {name: value for name, value in os.environ.items() if name not in known} | {
        "MONGODB_URI": uri, "MONGODB_DB_NAME": database, "PORT": str(port), "WHIMBREL_HOME": str(home / "whimbrel"),
    }  # fmt: skip
    arguments = ["--migrations", MIGRATIONS, "--workers", str(WORKERS), "--concurrency", str(SLOTS)]
    child = Child(
        [sys.executable, "-m", "whimbrel.cli.main", "serve", *arguments],
        log=home / "serve.log", environment=environment,
    )  # fmt: skip
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            end = time.monotonic() + STARTING
            while not _ready(client):
                assert child.alive(), child.tail()
                assert time.monotonic() < end, child.tail()
                time.sleep(0.1)
            yield client
    finally:
        child.terminate()


def _ready(client: httpx2.Client) -> bool:
    try:
        answer = client.get("/health")
    except httpx2.TransportError:
        return False
    return answer.status_code == 200 and answer.json()["workers"]["slots"] == WORKERS * SLOTS


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.api")
    parser.add_argument("--documents", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=float, default=50, help="requests a second, of all routes together")
    parser.add_argument("--migration", default="declarative", choices=["declarative", "function"])
    parser.add_argument("--pace", type=int, help="documents a second at most")
    parser.add_argument("--idle", type=float, default=60, help="seconds of requests without a migration")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as home,
        embedded(Path(home), cache_gb=4) as uri,
    ):
        settings = Settings(mongodb_uri=uri, mongodb_db_name="bench")
        with (
            store_at(uri, settings) as store,
            serving(uri, settings.mongodb_db_name, Path(home)) as client,
        ):
            body = {"migration": options.migration, "maxDocsPerSecond": options.pace}
            it = Serving(Bench(store, settings, options.documents), client, options.rate, body)
            _report(it, options.rounds, options.idle)


def _report(it: Serving, rounds: int, idle: float) -> None:
    found = [Answers() for _ in ROUTES]
    pairs: list[tuple[float, float]] = []
    cores: list[float] = []
    for number in range(rounds):
        alone = it.alone() if number % 2 == 0 else None
        loaded, answers, busy = it.under_load()
        alone = it.alone() if alone is None else alone
        pairs.append((alone, loaded))
        cores.append(busy)
        for kept, new in zip(found, answers, strict=True):
            kept.add(new)
        print(
            f"round {number + 1}: without requests {alone:.2f} s, with {loaded:.2f} s, {busy:.1f} cores busy",
            file=sys.stderr,
        )
    speed = statistics.median(alone / loaded for alone, loaded in pairs)
    middle = [statistics.median(each[at] for each in pairs) for at in range(2)]
    print(
        f"{it.bench.count:,} documents, {it.body['migration']}, {rounds} pairs of runs; whimbrel serve with {WORKERS} workers of "
        f"{SLOTS} slots, ledger broker; {it.rate:g} requests a second, over {len(ROUTES)} routes, from a process of its own; a latency "
        "counts from the moment at which the request was due"
    )
    print(
        f"while it migrates, {statistics.median(cores):.1f} of {psutil.cpu_count()} cores busy (median of the loaded runs):"
    )
    _table(found)
    print(f"while nothing is migrated, {idle:g} s:")
    _table(it.idle(idle))
    print(
        f"medians: without requests {middle[0]:.2f} s, with {middle[1]:.2f} s; the migration keeps {speed:.2f} of its speed "
        "(median of the pairs)"
    )


def _table(found: Sequence[Answers]) -> None:
    for route, each in zip(ROUTES, found, strict=True):
        ms = [1000 * seconds for seconds in each.latencies]
        print(
            f"  {route:22} p50 {_percentile(ms, 50):7.1f}  p99 {_percentile(ms, 99):7.1f}  max {max(ms):7.1f} ms  "
            f"{len(ms)} requests, {len(each.errors)} errors"
        )
    late = [1000 * seconds for each in found for seconds in each.late]
    print(
        f"  of that the client's own: it sent late by p50 {_percentile(late, 50):.1f}, p99 {_percentile(late, 99):.1f} ms"
    )
    for error in [error for each in found for error in each.errors][:3]:
        print(f"  error: {error}")


def _percentile(values: Sequence[float], percent: float) -> float:
    """The least value that so many percent do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


if __name__ == "__main__":
    main()
