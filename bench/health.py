"""What the sampler costs, and what it is good for: an application's latency alone, beside a run that obeys no gate, and beside one that does.

python -m bench.health [--seconds 30] [--documents 300000] [--samples 60] [--rate 2000]

It ends with 1 where the application fares no better beside the run that obeys.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from tests.servers.replicas import ReplicaSet

from bench.application import Application, Latencies, percentile
from bench.system import NAME, SLOTS, WORKERS, Bench, working
from whimbrel.bootstrap import store_at
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.health_settings import ignore_signal
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.sampling.sampler import Sampler
from whimbrel.mongo.store import MongoStore
from whimbrel.settings import Settings

APPLICATION_RATE = 100.0  # operations a second
MIGRATION = "function"
BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Phase:
    """What the application and the run did meanwhile. `shares`, `documents`: by second."""

    name: str
    latencies: Latencies
    shares: list[float]
    documents: list[int]


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.health")
    parser.add_argument("--seconds", type=int, default=30, help="of each phase")
    parser.add_argument("--documents", type=int, default=300_000)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument(
        "--rate", type=int, default=2000, help="documents a second, of the run whose rate is judged"
    )
    options = parser.parse_args()
    with ReplicaSet(3, election=10) as replicas:
        cost(replicas, options.samples)
        phases = list(beside(replicas, options.seconds, options.documents))
        report(phases)
        rate(replicas, options.rate, options.documents)
    by_name = {phase.name: phase.latencies.p(0.99) for phase in phases}
    sys.exit(by_name["with the gate"] >= by_name["without the gate"])


# What a sample costs


def cost(replicas: ReplicaSet, samples: int) -> None:
    """CPU of this process and of the primary, by `serverStatus`, for samples one after the other; less what the server does without them."""
    settings = Settings(mongodb_uri=replicas.uri, mongodb_db_name="bench", whimbrel_health="on")
    with store_at(replicas.uri, settings) as store:
        store.prepare()
        with closing(store.health_reader()) as reader:
            sampler = Sampler(store, reader, name="bench")
            sampler.tick()
            idle = _spent(store, lambda: time.sleep(samples / 20))
            own = time.process_time()
            busy = _spent(store, lambda: [sampler.tick() for _ in range(samples)])
            own = time.process_time() - own
    seconds, cpu, requests, sent = busy
    rest = idle[1] / idle[0] * seconds
    print(
        f"a sample, mean of {samples}: {seconds / samples * 1000:.1f} ms, {(requests - 2) / samples:.0f} requests (the secondaries' among them), {sent / samples / 1000:.0f} kB"
    )
    print(
        f"  CPU of the sampling process {own / samples * 1000:.2f} ms, of the primary {max(0.0, cpu - rest) / samples * 1000:.2f} ms"
    )
    print(f"  at one sample a second: {own / samples:.2%} and {max(0.0, cpu - rest) / samples:.2%} of a core")


def _spent(store: MongoStore, act: Callable[[], object]) -> tuple[float, float, int, int]:
    """Seconds that something takes, and the primary's CPU seconds, requests and bytes sent meanwhile."""

    def look() -> tuple[float, int, int]:
        status = store.client.admin.command("serverStatus")
        extra, network = status["extra_info"], status["network"]
        return (
            (extra["user_time_us"] + extra["system_time_us"]) / 1e6,
            network["numRequests"],
            network["bytesOut"],
        )

    before, began = look(), time.perf_counter()
    act()
    seconds, after = time.perf_counter() - began, look()
    return seconds, after[0] - before[0], after[1] - before[1], after[2] - before[2]


# An application beside runs


@contextmanager
def system(replicas: ReplicaSet, documents: int, *, health: str) -> Iterator[Bench]:
    settings = Settings(mongodb_uri=replicas.uri, mongodb_db_name="bench", whimbrel_health=health)  # type: ignore[arg-type]
    with store_at(replicas.uri, settings) as store, working(store, settings, replicas.uri):
        bench = Bench(store, settings, documents)
        # A test server's oplog is small and full, which would stop every run, whatever the application feels.
        ignore_signal(
            store.ledger, "oplog-window", seconds=3600, who="bench", why="a test server's oplog is small"
        )
        bench.seed()
        yield bench


def beside(replicas: ReplicaSet, seconds: int, documents: int) -> Iterator[Phase]:
    with Application(replicas.uri, "bench", APPLICATION_RATE) as application:
        application.begin()
        time.sleep(seconds)
        yield Phase("alone", application.end(), [], [])
        for name, health in (("without the gate", "off"), ("with the gate", "on")):
            with system(replicas, documents, health=health) as bench:
                yield _phase(name, bench, application, seconds)


def _phase(name: str, bench: Bench, application: Application, seconds: int) -> Phase:
    ledger, shares, documents = bench.store.ledger, [], []
    run = bench.start(MIGRATION)
    application.begin()
    for _ in range(seconds):
        time.sleep(1)
        found = ledger.runs.get(run.id)
        assert found is not None
        documents.append(view(ledger, found).counts.changed)
        verdict = ledger.health.verdict()
        shares.append(verdict.allowed if name == "with the gate" else 1.0)
    latencies = application.end()
    _end(bench, run.id)
    return Phase(name, latencies, shares, documents)


def _end(bench: Bench, run_id: str) -> None:
    ledger = bench.store.ledger
    found = ledger.runs.get(run_id)
    if found is not None and found.status is not RunStatus.COMPLETED:
        control.cancel(ledger, run_id, who="bench")


def report(phases: list[Phase]) -> None:
    alone = phases[0].latencies.p(0.99)
    print(
        f"an application of {APPLICATION_RATE:g} operations a second, half of them majority writes, beside a run of {MIGRATION!r}:"
    )
    for phase in phases:
        found = phase.latencies
        done = f"{phase.documents[-1] / len(phase.documents):8,.0f} docs/s" if phase.documents else ""
        share = f", share {statistics.mean(phase.shares):.0%}" if phase.shares else ""
        print(
            f"  {phase.name:17} p50 {found.p(0.5):7.1f} ms, p99 {found.p(0.99):8.1f} ms, {found.p(0.99) / alone:5.2f} x alone {done}{share}"
        )
    for phase in phases[1:]:
        by_second = phase.latencies.by_second
        p99 = [percentile(by_second.get(second, []), 0.99) * 1000 for second in range(len(phase.shares))]
        print(
            f"  {phase.name}, by second: share {_bars(phase.shares, 1.0)}  p99 {_bars(p99, max(p99))} (highest {max(p99):,.0f} ms)"
        )


def _bars(values: list[float], most: float) -> str:
    return "".join(BARS[round(value / most * (len(BARS) - 1)) if most else 0] for value in values)


# Whether a rate is kept


def rate(replicas: ReplicaSet, asked: int, documents: int) -> None:
    """Judged over the 30 seconds after the first five."""
    with system(replicas, documents, health="off") as bench:
        run = bench.start(MIGRATION)
        control.adjust(bench.store.ledger, run.id, who="bench", rate=asked)
        counts = []
        for pause in (5, 30):
            time.sleep(pause)
            found = bench.store.ledger.runs.get(run.id)
            assert found is not None
            counts.append(view(bench.store.ledger, found).counts.changed)
        _end(bench, run.id)
    kept = (counts[1] - counts[0]) / 30
    print(
        f"a rate of {asked:,} docs/s over 30 s on {WORKERS} workers with {SLOTS} slots of {NAME!r}: {kept:,.0f}, {kept / asked - 1:+.1%}"
    )


if __name__ == "__main__":
    main()
