"""What undo costs: the same run without and with before-images, in pairs; and its rollback.

python -m bench.undo [--documents 200000] [--rounds 5]
"""

import argparse
import statistics
import sys

from bench.system import SLOTS, WORKERS, Bench, benched
from whimbrel.engine.operating.start_cleanup import measure_cleanup
from whimbrel.engine.operating.start_rollback import start_rollback

NAMES = ("declarative", "function")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.undo")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with benched(options.documents) as bench:
        for name in NAMES:
            _report(name, bench, options.rounds)


def _report(name: str, bench: Bench, rounds: int) -> None:
    pairs: list[tuple[float, float, float]] = []
    size = 0
    for number in range(rounds):
        bench.seed()
        without = bench.whimbrel(name)
        bench.seed()
        with_images, run = bench.timed(lambda: bench.start(name, undo=True))
        size = measure_cleanup(bench.store, run.id).size
        back, _ = bench.timed(
            lambda run=run: start_rollback(  # type: ignore[misc]
                bench.store, run.id, who="bench", defaults=bench.settings.defaults
            )
        )
        pairs.append((without, with_images, back))
        print(
            f"round {number + 1}: {name}: {without:.2f}, with undo {with_images:.2f}, rollback {back:.2f} s",
            file=sys.stderr,
        )
    cost = statistics.median(each[1] / each[0] for each in pairs)
    middle = [statistics.median(each[at] for each in pairs) for at in range(3)]
    print(f"{bench.count:,} documents, medians of {rounds} rounds, {WORKERS} workers with {SLOTS} slots each")
    print(f"{name:12} without undo {middle[0]:6.2f} s, with {middle[1]:6.2f} s: {cost:.2f} x the time")
    print(f"{name:12} rollback     {middle[2]:6.2f} s, {bench.count / middle[2]:,.0f} docs/s")
    print(f"{name:12} images and marks take {size / bench.count:,.0f} bytes a document")


if __name__ == "__main__":
    main()
