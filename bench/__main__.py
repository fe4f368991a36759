"""`make bench`: medians of several rounds, each variant on freshly seeded documents, w:majority and journaled.

python -m bench [--documents 200000] [--rounds 5] [--only NAME,NAME]
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from pymongo import UpdateOne, WriteConcern

from bench.migrations import CHANGE, change
from whimbrel.bootstrap import store_at
from whimbrel.domain.states import ENDED
from whimbrel.engine.start import start_run
from whimbrel.engine.view import view
from whimbrel.mongo.documents import MongoDocuments
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.store import MongoStore
from whimbrel.samples.seeder import documents
from whimbrel.settings import Settings
from whimbrel.workers.catalog import load
from whimbrel.workers.fleet import Fleet
from whimbrel.workers.parent import Parent

MIGRATIONS = str(Path(__file__).with_name("migrations.py"))
NAME = "somemodels"
WORKERS, SLOTS = 2, 2


class Bench:
    """One mongod, one collection, one set of warm workers."""

    def __init__(self, store: MongoStore, settings: Settings, count: int) -> None:
        self.store, self.settings, self.count = store, settings, count
        self.collection = store.client[store.database].get_collection(
            NAME, write_concern=WriteConcern("majority", j=True)
        )
        self.migrations = load(MIGRATIONS)
        self.planning = 0.0

    def seed(self) -> None:
        self.collection.drop()
        self.collection.create_index([("status", 1), ("_id", 1)])
        block: list[dict[str, Any]] = []
        quick = self.collection.with_options(write_concern=WriteConcern(1))
        for each in documents(self.count):
            block.append(each)
            if len(block) == 10_000:
                quick.insert_many(block, ordered=False)
                block = []
        if block:
            quick.insert_many(block, ordered=False)
        self.store.client.admin.command("fsync")

    def bare(self) -> float:
        """One statement over all: the same change."""
        started = time.perf_counter()
        self.collection.update_many(
            {"status": "pending"}, [{"$set": {**CHANGE, "status": "success", "processedBy": "bare"}}]
        )
        return time.perf_counter() - started

    def loop(self) -> float:
        """What people write by hand: read a thousand, one UpdateOne each, guarded by the status."""
        started = time.perf_counter()
        last: Any = None
        while True:
            query: dict[str, Any] = {"status": "pending"} | (
                {"_id": {"$gt": last}} if last is not None else {}
            )
            page = list(self.collection.find(query).sort("_id", 1).limit(1000))
            if not page:
                return time.perf_counter() - started
            updates = []
            for each in page:
                sets = change(each)["$set"] | {"status": "success", "processedBy": "loop"}
                updates.append(UpdateOne({"_id": each["_id"], "status": "pending"}, {"$set": sets}))
            self.collection.bulk_write(updates, ordered=False)
            last = page[-1]["_id"]

    def whimbrel(self, name: str) -> float:
        self.planning = self._plan()
        started = time.perf_counter()
        run = start_run(
            self.store, self.migrations[name].definition, who="bench", defaults=self.settings.defaults
        )
        while True:
            found = self.store.ledger.runs.get(run.id)
            if found is not None and found.status in ENDED:
                seconds = time.perf_counter() - started
                counts = view(self.store.ledger, found).counts
                if counts.changed != self.count:
                    raise AssertionError(f"{counts} instead of {self.count}")
                return seconds
            time.sleep(0.05)

    def _plan(self) -> float:
        """Planning alone, not overlapped: the hops that the run will make."""
        session = self.store.client.start_session()
        found = MongoDocuments(session, self.store.database, NAME, statement_seconds=4)
        started = time.perf_counter()
        after = None
        while True:
            cuts = found.cuts(after, {"status": "pending"}, 1000, 256)
            if cuts.end:
                return time.perf_counter() - started
            after = cuts.keys[-1]


@contextmanager
def working(store: MongoStore, settings: Settings, uri: str) -> Iterator[Parent]:
    environment = {
        "MONGODB_URI": uri, "MONGODB_DB_NAME": settings.mongodb_db_name, "WHIMBREL_MIGRATIONS": MIGRATIONS,
    }  # fmt: skip
    fleet = Fleet(store.ledger.batches, environment, size=WORKERS, slots=SLOTS, run=None, longest_call=30)
    with Parent(store, settings, fleet) as parent:
        while store.ledger.leases.slots(5.0) < WORKERS * SLOTS:
            time.sleep(0.05)
        yield parent
        fleet.drain(10)


def peak_memory() -> dict[str, float]:
    """The largest resident set of this process and of any worker, in MB."""
    own = psutil.Process()
    peaks = {"this process": _peak(own)}
    for child in own.children():
        if "child" in " ".join(child.cmdline()):
            peaks["a worker"] = max(peaks.get("a worker", 0.0), _peak(child))
    return peaks


def _peak(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as home,
        embedded(Path(home), cache_gb=4) as uri,
    ):
        settings = Settings(mongodb_uri=uri, mongodb_db_name="bench")
        with store_at(uri, settings) as store:
            bench = Bench(store, settings, options.documents)
            with working(store, settings, uri):
                report(bench, options.rounds, set(filter(None, options.only.split(","))))


def report(bench: Bench, rounds: int, only: set[str]) -> None:
    seconds, planning = measure(bench, rounds, only)
    print(f"{bench.count:,} documents, medians of {rounds} rounds, {WORKERS} workers with {SLOTS} slots each")
    for name, each in seconds.items():
        middle = statistics.median(each)
        ratio = _ratio(seconds["bare update_many"], each)
        print(f"{name:18} {middle:7.2f} s  {bench.count / middle:9,.0f} docs/s  {ratio:5.2f} x bare")
    for name in ("function", "function, reads"):
        if name in seconds and "bulk_write loop" in seconds:
            print(f"{name:18} {_ratio(seconds['bulk_write loop'], seconds[name]):5.2f} x the bulk_write loop")
    if planning:
        share = statistics.median(planning) / statistics.median(seconds["declarative"])
        print(f"planning alone     {statistics.median(planning):7.2f} s, {share:.1%} of a declarative run")
    for what, peak in peak_memory().items():
        print(f"peak memory of {what}: {peak:.0f} MB")


def _ratio(reference: list[float], ours: list[float]) -> float:
    """The median of how many times faster we were, round by round: the machine's speed drifts."""
    return statistics.median(a / b for a, b in zip(reference, ours, strict=True))


def measure(bench: Bench, rounds: int, only: set[str]) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of each variant in each round, the variants in turn; and those of planning alone."""
    variants: dict[str, Callable[[], float]] = {
        "bare update_many": bench.bare,
        "bulk_write loop": bench.loop,
        "declarative": lambda: bench.whimbrel("declarative"),
        "function": lambda: bench.whimbrel("function"),
        "function, reads": lambda: bench.whimbrel("function-reads"),
    }
    chosen = {
        name: act for name, act in variants.items() if not only or name in only or name == "bare update_many"
    }
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    planning: list[float] = []
    for number in range(rounds):
        for name, act in chosen.items():
            bench.seed()
            seconds[name].append(act())
            if name == "declarative":
                planning.append(bench.planning)
            print(f"round {number + 1}: {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds, planning


if __name__ == "__main__":
    main()
