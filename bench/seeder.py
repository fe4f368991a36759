"""How fast sample documents are seeded, beside a bare `insert_many` loop.

python -m bench.seeder [--documents 200000] [--rounds 3] [--block 1000]

Each variant inserts the same documents, in blocks of the same size, under write concern majority, into a collection
with the same index, in turn. `bare` makes each block as the seeder does, and then sends it; `bare, ready` is given
all documents made beforehand: it only sends, and holds all of them in memory.
"""

import argparse
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

from pymongo import MongoClient, WriteConcern
from pymongo.collection import Collection

from bench.system import peak_memory
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.seeding import INDEX, MongoSamples
from whimbrel.samples.migration import COLLECTION
from whimbrel.samples.seeder import documents

DATABASE = "bench_seeder"


class Seeders:
    """The variants, each over an empty collection."""

    def __init__(self, client: MongoClient[Any], count: int, block: int) -> None:
        self._samples, self._count, self._block = MongoSamples(client, DATABASE), count, block
        self._client = client
        self._collection: Collection[Any] = client[DATABASE].get_collection(
            COLLECTION, write_concern=WriteConcern("majority")
        )

    def fresh(self) -> None:
        self._collection.drop()
        self._collection.create_index(INDEX)
        self._client.admin.command("fsync")

    def whimbrel(self) -> float:
        began = time.perf_counter()
        made = documents(self._count, status="mixed")
        for _ in self._samples.insert(made, block=self._block):
            pass
        return time.perf_counter() - began

    def bare(self) -> float:
        began = time.perf_counter()
        made = documents(self._count, status="mixed")
        while block := list(islice(made, self._block)):
            self._collection.insert_many(block, ordered=False)
        return time.perf_counter() - began

    def ready(self) -> float:
        made = list(documents(self._count, status="mixed"))
        began = time.perf_counter()
        for at in range(0, self._count, self._block):
            self._collection.insert_many(made[at : at + self._block], ordered=False)
        return time.perf_counter() - began

    def check(self) -> None:
        there = self._collection.count_documents({})
        if there != self._count:
            raise AssertionError(f"{there} documents instead of {self._count}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.seeder")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--block", type=int, default=1000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as home,
        embedded(Path(home), cache_gb=2) as uri,
        MongoClient[Any](uri) as client,
    ):
        seeders = Seeders(client, options.documents, options.block)
        variants = {"whimbrel": seeders.whimbrel, "bare": seeders.bare, "bare, ready": seeders.ready}
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for number in range(options.rounds):
            for name, act in variants.items():
                seeders.fresh()
                seconds[name].append(act())
                seeders.check()
                if not number and name == "whimbrel":  # before `ready` holds everything
                    print(f"peak memory while seeding: {peak_memory()['this process']:.0f} MB")
    print(f"{options.documents:,} documents, blocks of {options.block:,}, medians of {options.rounds} rounds")
    for name, each in seconds.items():
        middle = statistics.median(each)
        pairs = zip(each, seconds["whimbrel"], strict=True)
        ratio = statistics.median(theirs / ours for theirs, ours in pairs)
        print(
            f"{name:12} {middle:6.2f} s  {options.documents / middle:8,.0f} docs/s  whimbrel is {ratio:4.2f} x"
        )


if __name__ == "__main__":
    main()
