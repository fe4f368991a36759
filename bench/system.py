"""What the benchmarks share: one mongod's documents, the runs to be timed, and warm workers."""

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
from whimbrel.domain.migrations.definition_checks import with_undo
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.operating.start import start_run
from whimbrel.mongo.documents import MongoDocuments
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.store import MongoStore
from whimbrel.samples.seeder import documents
from whimbrel.settings import Settings
from whimbrel.workers.migration_loader import load
from whimbrel.workers.parent_process import ParentProcess
from whimbrel.workers.supervisor import Supervisor

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

    def whimbrel(self, name: str, look: Callable[[], object] = lambda: None) -> float:
        """Seconds of a run of a migration; `look` is called all the while."""
        return self.timed(lambda: self.start(name), look)[0]

    def start(self, name: str, *, undo: bool = False) -> Run:
        it = self.migrations[name].definition
        it = with_undo(it) if undo else it
        return start_run(self.store, it, who="bench", defaults=self.settings.defaults)

    def timed(self, start: Callable[[], Run], look: Callable[[], object] = lambda: None) -> tuple[float, Run]:
        """Seconds of a run, from its start until another process sees its end."""
        started = time.perf_counter()
        run = start()
        while True:
            found = self.store.ledger.runs.get(run.id)
            if found is not None and found.status in ENDED:
                seconds = time.perf_counter() - started
                counts = view(self.store.ledger, found).counts
                if counts.changed != self.count:
                    raise AssertionError(f"{counts} instead of {self.count}")
                return seconds, found
            look()
            time.sleep(0.05)

    def plan(self) -> float:
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
def benched(documents: int) -> Iterator[Bench]:
    """An embedded MongoDB with room for so many documents, and warm workers by the ledger broker."""
    with (
        tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as home,
        embedded(Path(home), cache_gb=4) as uri,
    ):
        settings = Settings(mongodb_uri=uri, mongodb_db_name="bench")
        with store_at(uri, settings) as store, working(store, settings, uri):
            yield Bench(store, settings, documents)


@contextmanager
def working(
    store: MongoStore, settings: Settings, uri: str, *, workers: int = WORKERS, slots: int = SLOTS
) -> Iterator[ParentProcess]:
    """Warm workers, with the broker that the settings name."""
    environment = {
        "MONGODB_URI": uri, "MONGODB_DB_NAME": settings.mongodb_db_name or "", "WHIMBREL_MIGRATIONS": MIGRATIONS,
        "RABBITMQ_URL": settings.rabbitmq_url or "", "BATCH_SIZE": str(settings.batch_size),
        "WHIMBREL_HEALTH": settings.whimbrel_health,
    }  # fmt: skip
    supervisor = Supervisor(
        store.ledger.batches, environment, size=workers, slots=slots, run=None, longest_call=30
    )
    with ParentProcess(store, settings, supervisor) as parent:
        try:
            while store.ledger.leases.slots(5.0) < workers * slots:
                if parent.broken is not None:
                    raise parent.broken
                time.sleep(0.05)
            yield parent
        finally:
            supervisor.drain(10)


def peak_memory() -> dict[str, float]:
    """The largest resident set of this process and of any worker, in MB."""
    own = psutil.Process()
    peaks = {"this process": _peak(own)}
    for child in own.children():
        if "worker_process" in " ".join(child.cmdline()):
            peaks["a worker"] = max(peaks.get("a worker", 0.0), _peak(child))
    return peaks


def _peak(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0
