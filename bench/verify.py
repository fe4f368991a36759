"""How fast a run is verified, beside bare scans of the collection.

python -m bench.verify [--documents 200000] [--rounds 5] [--migration declarative]

The verification looks at every document, and transforms the default sample once more. Each round times one of each, in turn,
over the same documents; the ratios are those of the pairs:

read     a client reads all documents, and does not decode them
counted  the server counts them by a `$group`, one statement, and nothing leaves it
by mark  the same, grouped by the mark: it has to look into the documents, as the verification has
"""

import argparse
import statistics
import time
from typing import Any

from pymongo.read_concern import ReadConcern

from bench.system import SLOTS, WORKERS, Bench, benched
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.start_verification import start_verification

SMALLEST = 100  # bytes that a sample document has at least


class Scans:
    """A migrated collection, and the looks at it."""

    def __init__(self, bench: Bench, name: str) -> None:
        self._bench, self._store, self._it = bench, bench.store, bench.migrations[name].definition
        self._majority = bench.collection.with_options(read_concern=ReadConcern("majority"))
        bench.seed()
        bench.whimbrel(name)
        self._run = self._store.ledger.runs.list(limit=1)[0]

    def read(self) -> float:
        began = time.perf_counter()
        size = sum(len(batch) for batch in self._majority.find_raw_batches())
        assert size >= self._bench.count * SMALLEST, size
        return time.perf_counter() - began

    def counted(self) -> float:
        return self._grouped(None)

    def by_mark(self) -> float:
        return self._grouped("$processedBy")

    def _grouped(self, by: str | None) -> float:
        began = time.perf_counter()
        pipeline: list[Any] = [{"$group": {"_id": by, "n": {"$sum": 1}}}]
        counted = sum(row["n"] for row in self._majority.aggregate(pipeline))
        assert counted == self._bench.count, counted
        return time.perf_counter() - began

    def verify(self) -> float:
        began = time.perf_counter()
        defaults = self._bench.settings.defaults
        run = start_verification(self._store, self._run.id, self._it, who="bench", defaults=defaults)
        while (found := self._store.ledger.runs.get(run.id)) is None or found.status not in ENDED:
            time.sleep(0.02)
        seconds = time.perf_counter() - began
        assert found.status is RunStatus.COMPLETED, found.report
        return seconds


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.verify")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--migration", default="declarative", choices=["declarative", "function"])
    options = parser.parse_args()
    with benched(options.documents) as bench:
        scans = Scans(bench, options.migration)
        variants = {
            "read": scans.read,
            "counted": scans.counted,
            "by mark": scans.by_mark,
            "verification": scans.verify,
        }
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(options.rounds):
            for name, act in variants.items():
                seconds[name].append(act())
    print(
        f"{options.documents:,} documents, medians of {options.rounds} rounds, {WORKERS} workers with {SLOTS} slots each"
    )
    ours = seconds["verification"]
    for name, each in seconds.items():
        middle = statistics.median(each)
        ratio = statistics.median(bare / mine for bare, mine in zip(each, ours, strict=True))
        print(
            f"{name:14} {middle:7.2f} s  {options.documents / middle:9,.0f} docs/s  the verification has {ratio:.2f} x its speed"
        )


if __name__ == "__main__":
    main()
