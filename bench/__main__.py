"""`make bench`: medians of several rounds, each variant on freshly seeded documents, w:majority and journaled.

python -m bench [--documents 200000] [--rounds 5] [--only NAME,NAME]
"""

import argparse
import statistics
import sys
from collections.abc import Callable

from bench.system import SLOTS, WORKERS, Bench, benched, peak_memory


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with benched(options.documents) as bench:
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
            if name == "declarative":
                planning.append(bench.plan())
            seconds[name].append(act())
            print(f"round {number + 1}: {name}: {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return seconds, planning


if __name__ == "__main__":
    main()
