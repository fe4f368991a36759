"""What the sampler costs, and what it is good for: an application's latency alone, beside a run that obeys no gate, and beside one that does.

python -m bench.health [--seconds 30] [--settle 20] [--usual 15] [--rounds 3] [--documents 600000] [--samples 60] [--rate 2000] [--migration function]

A round is the application alone, beside a run without a gate, and beside one that obeys it, from its first second on. What is reported of each is its first `settle`
seconds, in which the gate finds the share, and the `seconds` after them; of several rounds the median of their ratios, as the machine has other work. It ends with
1 where the application fares no better beside the run that obeys.
"""

import argparse
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

from tests.servers.replicas import ReplicaSet

from bench.application import Application, Latencies, percentile
from bench.system import NAME, SLOTS, WORKERS, Bench, working
from whimbrel.bootstrap import store_at
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.operating import control
from whimbrel.engine.operating.run_view import view
from whimbrel.engine.sampling.sampler import Sampler
from whimbrel.mongo.store import MongoStore
from whimbrel.settings import Settings

APPLICATION_RATE = 100.0  # operations a second
MIGRATION = "function"
BARS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Phase:
    """What the application and the run did meanwhile. `shares`, `documents`: by second. `settle`: its first seconds. `why`: signals that held the run back."""

    name: str
    latencies: Latencies
    shares: list[float]
    documents: list[int]
    settle: int
    why: Counter[str]

    def p(self, part: float, *, settled: bool = True) -> float:
        """In milliseconds."""
        seconds = self.latencies.by_second.items()
        return (
            percentile(
                [each for second, some in seconds for each in some if (second >= self.settle) is settled],
                part,
            )
            * 1000
        )

    @property
    def speed(self) -> float:
        """Documents a second, once it has settled."""
        return (self.documents[-1] - self.documents[self.settle - 1]) / (len(self.documents) - self.settle)


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.health")
    parser.add_argument("--seconds", type=int, default=30, help="of each phase, after it has settled")
    parser.add_argument("--settle", type=int, default=20)
    parser.add_argument(
        "--usual",
        type=float,
        default=15.0,
        help="seconds for which the application goes on alone before a run: the sampler learns what is usual",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--migration", default=MIGRATION)
    parser.add_argument("--documents", type=int, default=600_000)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument(
        "--rate", type=int, default=2000, help="documents a second, of the run whose rate is judged"
    )
    options = parser.parse_args()
    with ReplicaSet(3, election=10) as replicas:
        cost(replicas, options.samples)
        rounds = [beside(replicas, options) for _ in range(options.rounds)]
        ratios = [report(phases, options.migration) for phases in rounds]
        rate(replicas, options.rate, options.documents)
    with_gate, without = (statistics.median(each) for each in zip(*ratios, strict=True))
    print(
        f"median of {len(ratios)} rounds: p99 {with_gate:.2f} x alone with the gate, {without:.2f} x without"
    )
    sys.exit(with_gate >= without)


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

            def sample() -> None:
                for _ in range(samples):
                    sampler.tick()

            busy = _spent(store, sample)
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
        bench.seed()
        yield bench


def beside(replicas: ReplicaSet, options: argparse.Namespace) -> list[Phase]:
    """Workers are warm, and the sampler looks already, before the application and then the run begin."""
    phases = []
    with Application(replicas.uri, "bench", APPLICATION_RATE) as application:
        application.begin()
        time.sleep(options.settle + options.seconds)
        phases.append(Phase("alone", application.end(), [], [], options.settle, Counter()))
        phases += [beside_run(replicas, application, options, health=health) for health in ("off", "on")]
    return phases


def beside_run(
    replicas: ReplicaSet, application: Application, options: argparse.Namespace, *, health: str
) -> Phase:
    """Measures beside a run that obeys the gate (`health` "on") or knows none ("off")."""
    with system(replicas, options.documents, health=health) as bench:
        application.begin()
        time.sleep(options.usual)
        application.end()
        return _phase("with the gate" if health == "on" else "without the gate", bench, application, options)


def _phase(name: str, bench: Bench, application: Application, options: argparse.Namespace) -> Phase:
    ledger, shares, documents, why = bench.store.ledger, [], [], Counter[str]()
    application.begin()
    run = bench.start(options.migration)
    for _ in range(options.settle + options.seconds):
        time.sleep(1)
        found = ledger.runs.get(run.id)
        assert found is not None
        documents.append(view(ledger, found).counts.changed)
        verdict = ledger.health.verdict()
        shares.append(verdict.allowed if name == "with the gate" else 1.0)
        why.update(reason.signal for reason in verdict.reasons if name == "with the gate")
        if found.status is RunStatus.COMPLETED:
            raise SystemExit("The run has ended before the phase: give it more --documents.")
    latencies = application.end()
    _end(bench, run.id)
    return Phase(name, latencies, shares, documents, options.settle, why)


def _end(bench: Bench, run_id: str) -> None:
    ledger = bench.store.ledger
    found = ledger.runs.get(run_id)
    if found is not None and found.status is not RunStatus.COMPLETED:
        control.cancel(ledger, run_id, who="bench")


def report(phases: list[Phase], migration: str) -> tuple[float, float]:
    """Returns the p99 with the gate and without it, as a multiple of that alone."""
    alone = phases[0].p(0.99)
    print(
        f"an application of {APPLICATION_RATE:g} operations a second, half of them majority writes, beside a run of {migration!r}; load of the machine {os.getloadavg()[0]:.1f}:"
    )
    for phase in phases:
        done = f", {phase.speed:8,.0f} docs/s" if phase.documents else ""
        share = f", share {statistics.median(phase.shares[phase.settle :]):.0%}" if phase.shares else ""
        first = (
            f"; first {phase.settle} s: p99 {phase.p(0.99, settled=False):,.1f} ms" if phase.documents else ""
        )
        why = f"; held back by {dict(phase.why.most_common(3))}" if phase.why else ""
        print(
            f"  {phase.name:17} p50 {phase.p(0.5):7.1f} ms, p90 {phase.p(0.9):7.1f} ms, p99 {phase.p(0.99):8.1f} ms, {phase.p(0.99) / alone:5.2f} x alone{done}{share}{first}{why}"
        )
    for phase in phases[1:]:
        by_second = phase.latencies.by_second
        p99 = [percentile(by_second.get(second, []), 0.99) * 1000 for second in range(len(phase.shares))]
        print(
            f"  {phase.name}, by second: share {_bars(phase.shares, 1.0)}  p99 {_bars(p99, max(p99))} (highest {max(p99):,.0f} ms)"
        )
    _, without, with_gate = phases
    return with_gate.p(0.99) / alone, without.p(0.99) / alone


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
