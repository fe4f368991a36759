"""An application beside a run, in a process of its own: reads and majority writes by `_id`, in an open loop.

Each operation is due at a moment that no answer moves, and its latency counts from that moment: an answer that is late cannot hide those behind it.

`python -m bench.application URI DATABASE RATE` begins when it reads a line, and ends at the next one, with its latencies as JSON.
"""

import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pymongo import MongoClient, WriteConcern

DOCUMENTS = 20_000
THREADS = 16  # operations that can be under way at a time
COLLECTION = "application"


@dataclass(frozen=True)
class Latencies:
    """By second since the beginning: seconds that operations took from when they were due."""

    by_second: dict[int, list[float]]

    @property
    def all(self) -> list[float]:
        return [each for some in self.by_second.values() for each in some]

    def p(self, part: float) -> float:
        """In milliseconds."""
        return percentile(self.all, part) * 1000


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


class Application:
    """`with Application(...) as it: it.begin(); ...; it.end()`."""

    def __init__(self, uri: str, database: str, rate: float) -> None:
        self._arguments = [uri, database, str(rate)]

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.application", *self._arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def begin(self) -> None:
        self._tell()

    def end(self) -> Latencies:
        self._tell()
        assert self._process.stdout is not None
        found = json.loads(self._process.stdout.readline())
        return Latencies({int(second): values for second, values in found.items()})

    def _tell(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()


def main() -> None:
    uri, database, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
    with MongoClient[dict[str, Any]](uri, maxPoolSize=THREADS) as client, ThreadPoolExecutor(THREADS) as pool:
        collection = client[database].get_collection(COLLECTION, write_concern=WriteConcern("majority"))
        if collection.estimated_document_count() != DOCUMENTS:
            collection.drop()
            collection.insert_many([{"_id": n, "n": 0, "text": "x" * 200} for n in range(DOCUMENTS)])
        print("ready", flush=True)
        while sys.stdin.readline():
            over = threading.Event()
            threading.Thread(target=_await_line, args=(over,), daemon=True).start()
            print(json.dumps(_load(collection, pool, rate, over)), flush=True)


def _await_line(over: threading.Event) -> None:
    sys.stdin.readline()
    over.set()


def _load(
    collection: Any, pool: ThreadPoolExecutor, rate: float, over: threading.Event
) -> dict[int, list[float]]:
    latencies: dict[int, list[float]] = {}
    began, number = time.perf_counter(), 0

    def act(due: float, at: int) -> None:
        if at % 2:
            collection.find_one({"_id": random.randrange(DOCUMENTS)})
        else:
            collection.update_one({"_id": random.randrange(DOCUMENTS)}, {"$inc": {"n": 1}})
        latencies.setdefault(int(due - began), []).append(time.perf_counter() - due)

    pending = []
    while not over.is_set():
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            time.sleep(wait)
        pending.append(pool.submit(act, due, number))
        number += 1
    for each in pending:
        each.result()
    return latencies


if __name__ == "__main__":
    main()
