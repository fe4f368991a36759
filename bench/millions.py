"""Whole runs over millions of documents, as a user starts them: by `whimbrel run`, beside one bare `update_many`.

python -m bench.millions [--millions 1,4,10] [--only declared,function] [--killed 4]

For each size and kind: seconds from the run's start to its end, documents a second by tenths of the documents (last / second),
the peak memory of each process, the most documents and keys that any one statement looked at (MongoDB's slow-query profiler, with
every statement), documents looked at in all for each of the collection, and a run whose process group is killed by SIGKILL in the
middle and resumed. Beside bare `update_many` stands the least that leaves evidence: the same with a mark, and one look at all marks. The documents are small: `_id` 0, 1, 2 and on, and `n`.
"""

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from pymongo import MongoClient, WriteConcern

from whimbrel.mongo.embedded import embedded

FILE = """
from whimbrel import Migration, migration
declared = Migration(name="declared", collection="numbers", update={"$inc": {"n": 1}})
@migration(collection="numbers")
def function(document):
    return {"$set": {"n": document["n"] + 1}}
"""
BLOCK = 50_000
PARTS = 10


@dataclass
class Watched:
    """What was seen of one run."""

    seconds: float = 0.0
    rates: list[float] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)


class Millions:
    """One mongod and one collection of numbers."""

    def __init__(self, uri: str, home: Path) -> None:
        self.client: MongoClient[dict[str, Any]] = MongoClient(uri)
        self.database = self.client["millions"]
        self.numbers = self.database.get_collection("numbers", write_concern=WriteConcern("majority", j=True))
        self.environment = os.environ | {
            "MONGODB_URI": uri, "MONGODB_DB_NAME": "millions", "WHIMBREL_MIGRATIONS": str(home / "file.py"),
        }  # fmt: skip
        (home / "file.py").write_text(FILE)

    def seed(self, count: int) -> None:
        self.client.drop_database("millions")
        quick = self.numbers.with_options(write_concern=WriteConcern(1))
        for at in range(0, count, BLOCK):
            quick.insert_many(
                [{"_id": key, "n": 0} for key in range(at, min(count, at + BLOCK))], ordered=False
            )
        self.client.admin.command("fsync")

    def bare(self) -> float:
        began = time.perf_counter()
        self.numbers.update_many({"n": 0}, {"$inc": {"n": 1}})
        return time.perf_counter() - began

    def least(self, count: int) -> float:
        """Seconds of the least that leaves evidence and looks at it: the change with a mark in one statement, then all marks by ranges of `_id`."""
        began = time.perf_counter()
        self.numbers.update_many(
            {"n": 0}, {"$inc": {"n": 1}, "$set": {"_whimbrel": {"declared": "20261129-abc234.1000"}}}
        )
        for at in range(0, count, BLOCK):
            block = {"_id": {"$gte": at, "$lt": at + BLOCK}, "_whimbrel.declared": {"$exists": False}}
            assert self.numbers.count_documents(block, hint="_id_") == 0
        return time.perf_counter() - began

    def run(self, name: str, count: int) -> Watched:
        """A run from its start to its end."""
        found = Watched()
        with self.started("run", name, "--yes") as process:
            marks = self._watch(process, count, found)
        self.check(count)
        found.seconds = marks[-1] - marks[0]
        found.rates = [count / PARTS / max(later - one, 0.001) for one, later in itertools.pairwise(marks)]
        return found

    def _watch(self, process: subprocess.Popen[bytes], count: int, found: Watched) -> list[float]:
        """When each tenth of the documents was done, the beginning first; and the memory of all processes meanwhile."""
        row: dict[str, Any] | None = None
        marks, looked = list[float](), 0.0
        while process.poll() is None:
            row = self.database["whimbrel_runs"].find_one({}, {"counts": 1, "status": 1})
            now = time.perf_counter()
            if row and row["status"] != "queued":
                marks = marks or [now]
                while len(marks) <= PARTS and row["counts"]["changed"] >= len(marks) * count / PARTS:
                    marks.append(now)
                if row["status"].startswith("completed"):
                    return [*marks[: PARTS + 1], now]
            if now - looked > 1.0:
                looked = now
                note_memory(process.pid, found.peaks)
            time.sleep(0.05)
        raise AssertionError(f"the run ended by itself: {row}")

    def killed(self, name: str, count: int, peaks: dict[str, float]) -> float:
        """Seconds from the start to the end of a run that was killed with all its processes when half was done. `peaks`: of memory."""
        began = time.perf_counter()
        with self.started("run", name, "--yes") as process:
            while True:
                row = self.database["whimbrel_runs"].find_one({})
                if row and row["counts"]["changed"] > count / 2:
                    break
                assert process.poll() is None, row
                time.sleep(0.02)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        run = str(row["_id"])
        with self.started("resume", run) as process:
            while process.poll() is None:
                note_memory(process.pid, peaks)
                time.sleep(1.0)
        assert process.returncode == 0
        self.check(count)
        return time.perf_counter() - began

    def check(self, count: int) -> None:
        counted = {
            row["_id"]: row["c"]
            for row in self.numbers.aggregate([{"$group": {"_id": "$n", "c": {"$sum": 1}}}])
        }
        assert counted == {1: count}, counted

    def looks(self, name: str, count: int) -> dict[str, Any]:
        """The largest statement of a run on the collection, and the documents looked at in all."""
        self.database.create_collection("system.profile", capped=True, size=256 * 1024 * 1024)
        self.database.command("profile", 2, slowms=0)
        with self.started("run", name, "--yes") as process:
            process.wait()
        self.database.command("profile", 0)
        looked = {"$group": {
            "_id": None, "documents": {"$max": "$docsExamined"}, "keys": {"$max": "$keysExamined"}, "all": {"$sum": "$docsExamined"},
        }}  # fmt: skip
        mine = {"ns": "millions.numbers", "command.aggregate": {"$ne": "numbers"}}
        [row] = self.database["system.profile"].aggregate([{"$match": mine}, looked])
        return {"documents": row["documents"], "keys": row["keys"], "passes": round(row["all"] / count, 2)}

    @contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            [*WHIMBREL, *words], env=self.environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # fmt: skip
        try:
            yield process
            process.wait(timeout=120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


WHIMBREL = (sys.executable, "-m", "whimbrel.cli.main")


def note_memory(pid: int, peaks: dict[str, float]) -> None:
    """The resident sets of a command and its workers, in MB, where they are larger than before."""
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            what = "command" if process.pid == pid else "worker"
            peaks[what] = max(peaks.get(what, 0.0), process.memory_info().rss / 2**20)
    except psutil.NoSuchProcess:
        return


def report(millions: Millions, name: str, count: int, bare: float, least: float, *, kill: bool) -> None:
    millions.seed(count)
    found = millions.run(name, count)
    killed = None
    if kill:
        millions.seed(count)
        killed = round(millions.killed(name, count, found.peaks), 1)
    told = {
        "documents": count, "kind": name, "seconds": round(found.seconds, 1), "per second": round(count / found.seconds),
        "bare": round(bare, 1), "times bare": round(found.seconds / bare, 2), "least": round(least, 1), "times least": round(found.seconds / least, 2),
        "thousands a second by tenths": [round(rate / 1000, 1) for rate in found.rates],
        "last / second tenth": round(found.rates[PARTS - 1] / found.rates[1], 2),
        "peak MB": {what: round(peak) for what, peak in found.peaks.items()}, "killed and resumed, seconds": killed,
    }  # fmt: skip
    print(json.dumps(told), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.millions")
    parser.add_argument("--millions", default="1,4,10")
    parser.add_argument("--only", default="declared,function")
    parser.add_argument(
        "--killed", type=float, default=float("inf"), help="millions up to which runs are killed too"
    )
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as home,
        embedded(Path(home), cache_gb=4) as uri,
    ):
        millions = Millions(uri, Path(home))
        for name in options.only.split(","):
            millions.seed(200_000)
            print(
                json.dumps(
                    {"documents": 200_000, "kind": name, "largest look": millions.looks(name, 200_000)}
                )
            )
        for size in map(float, options.millions.split(",")):
            count = int(size * 1_000_000)
            millions.seed(count)
            bare = millions.bare()
            millions.seed(count)
            least = millions.least(count)
            for name in options.only.split(","):
                report(millions, name, count, bare, least, kill=size <= options.killed)


if __name__ == "__main__":
    main()
