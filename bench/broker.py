"""`make bench`, second part: what RabbitMQ costs. A node of its own is started, as for the tests.

python -m bench.broker [--documents 200000] [--rounds 3] [--deep 2000000]
"""

import argparse
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.servers.rabbit import RabbitNode

from bench.system import Bench, working
from whimbrel.bootstrap import broker, feed, store_at
from whimbrel.domain.runs.batches import Batch
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.mongo.embedded import embedded
from whimbrel.mongo.store import MongoStore
from whimbrel.settings import Settings

MESSAGES = 5000
QUEUE = "app.processing.queue"


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.broker")
    parser.add_argument("--documents", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deep", type=int, default=2_000_000)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="whimbrel-bench-") as home,
        embedded(Path(home), cache_gb=4) as uri,
        RabbitNode() as node,
    ):
        base = {"mongodb_uri": uri, "mongodb_db_name": "bench"}
        ledger, rabbit = Settings(**base), Settings(**base, rabbitmq_url=node.url)
        with store_at(uri, ledger) as store:
            bench = Bench(store, ledger, options.documents)
            cost = messages(store, bench, rabbit)
            shares(bench, (ledger, rabbit), uri, options.rounds, cost)
            scaling(bench, rabbit, uri, options.rounds)
            if options.deep:
                bench.count = options.deep
                depth(bench, rabbit, uri, node)


def messages(store: MongoStore, bench: Bench, settings: Settings) -> float:
    """Pointers a second, published with confirms and taken with acknowledgements: the seconds that one costs."""
    bench.seed()
    run = start_run(store, bench.migrations["declarative"].definition, who="bench", defaults=Defaults())
    store.ledger.runs.describe(run.id, message="bench")
    batches = [Batch(run=run.id, seq=seq, leg=0, phase="pending") for seq in range(1, MESSAGES + 1)]
    sender = broker(settings, "bench")
    sender.connect(10)
    started = time.perf_counter()
    for at in range(0, MESSAGES, 100):
        sender.announce(run, batches[at : at + 100])
    published = time.perf_counter() - started
    with feed(settings, name="bench", lanes=(), slots=32, give_up=lambda: None) as source:
        started = time.perf_counter()
        for _ in range(MESSAGES):
            found = source.next(10, urgent=False)
            if found is None:
                raise AssertionError("a pointer is missing")
            found.acknowledge()
        taken = time.perf_counter() - started
    sender.close()
    store.client[store.database]["whimbrel_runs"].delete_one({"_id": run.id})
    print(f"{MESSAGES} pointers: published {MESSAGES / published:,.0f}/s, taken {MESSAGES / taken:,.0f}/s")
    return (published + taken) / MESSAGES


def shares(bench: Bench, both: tuple[Settings, Settings], uri: str, rounds: int, cost: float) -> None:
    """Runs with the ledger broker and with RabbitMQ in turn, at two batch sizes."""
    for size in (500, 5000):
        seconds: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds):
            for settings, found in zip(both, seconds, strict=True):
                fitted = settings.model_copy(update={"batch_size": size})
                bench.settings = fitted
                with working(bench.store, fitted, uri):
                    bench.seed()
                    found.append(bench.whimbrel("declarative"))
                name = "rabbitmq" if fitted.rabbitmq_url else "ledger"
                print(f"round {number + 1}: batches of {size}, {name}: {found[-1]:.2f} s", file=sys.stderr)
        ratio = statistics.median(a / b for a, b in zip(*seconds, strict=True))
        whole = statistics.median(seconds[1])
        share = cost * bench.count / size / whole
        print(
            f"batches of {size}: ledger {statistics.median(seconds[0]):.2f} s, rabbitmq {whole:.2f} s, "
            f"rabbitmq's speed {ratio:.2f} x the ledger broker's; its messages alone are {share:.1%} of the run"
        )


def scaling(bench: Bench, settings: Settings, uri: str, rounds: int) -> None:
    """One, two and four worker processes, with a function."""
    bench.settings = settings
    for workers in (1, 2, 4):
        seconds = []
        with working(bench.store, settings, uri, workers=workers):
            for _ in range(rounds):
                bench.seed()
                seconds.append(bench.whimbrel("function"))
        print(f"{workers} worker processes: {bench.count / statistics.median(seconds):,.0f} docs/s")


def depth(bench: Bench, settings: Settings, uri: str, node: RabbitNode) -> None:
    """How many pointers lie ready, sampled all the while: the least, the median, the most, by quarters of the run."""
    samples: list[int] = []
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.25):
            samples.append(node.queues()[QUEUE].ready)

    bench.settings = settings
    with working(bench.store, settings, uri):
        bench.seed()
        watching = threading.Thread(target=sample)
        watching.start()
        seconds = bench.whimbrel("declarative")
        over.set()
        watching.join()
    quarter = max(1, len(samples) // 4)
    parts = [samples[at : at + quarter] for at in range(0, 4 * quarter, quarter)]
    told = ", ".join(f"{min(each)}/{statistics.median(each):g}/{max(each)}" for each in parts if each)
    print(
        f"{bench.count:,} documents in {seconds:.1f} s; pointers ready (least/median/most), by quarters: {told}"
    )


if __name__ == "__main__":
    main()
