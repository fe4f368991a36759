"""The queue over the last minutes: sampled by a thread of this process, from the first question on until nobody asks."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from whimbrel.domain.runs.workers import ALIVE, Worker
from whimbrel.engine.queueing import queues
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Broker, Ledger

log = structlog.get_logger("whimbrel.sampling")

EVERY = 1.0  # seconds between two samples
KEPT = 300  # samples
UNASKED = 300.0  # seconds after which the thread ends
SPAN = 60.0  # seconds over which the rate is taken
LOOKED_AT = 1000  # queued batches of a run, the first: among them is what has waited longest


@dataclass(frozen=True, slots=True)
class QueueSample:
    """The queue at one moment. `oldest`: seconds since this process first saw the batch that has waited longest."""

    at: datetime
    stats: queues.Stats
    settled: float
    oldest: float | None

    @property
    def in_hand(self) -> int:
        return sum(each.in_hand for each in self.stats.queues.values())


class QueueSampler:
    """One process's samples. `alive`: whether what it asks is still there."""

    def __init__(self, ledger: Ledger, broker: Broker, alive: Callable[[], bool]) -> None:
        self._ledger, self._broker, self._alive = ledger, broker, alive
        self._samples: deque[QueueSample] = deque(maxlen=KEPT)
        self._seen: Mapping[str, float] = {}  # queued batch -> when this process saw it first
        self._lock = threading.Lock()
        self._asked = 0.0
        self._thread: threading.Thread | None = None

    def history(self) -> Sequence[QueueSample]:
        """What was sampled so far, the newest last. Raises BrokerUnavailable, BrokerRefused, Transient where there is none of now."""
        self._asked = time.monotonic()
        with self._lock:
            newest = self._samples[-1] if self._samples else None
            if newest is None or (datetime.now(UTC) - newest.at).total_seconds() > 2 * EVERY:
                self._look()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._repeat, name="sampling", daemon=True)
                self._thread.start()
            return list(self._samples)

    def _repeat(self) -> None:
        while self._alive() and time.monotonic() - self._asked < UNASKED:
            time.sleep(EVERY)
            try:
                with self._lock:
                    if self._alive():
                        self._look()
            except WhimbrelError as error:
                log.debug("no sample", reason=str(error))
            except Exception:
                if self._alive():  # else what it asks was closed under it
                    log.exception("sampling broke")
                    return

    def _look(self) -> None:
        rate = self._ledger.batches.settled(SPAN) / SPAN
        oldest = self._oldest()
        found = queues.stats(self._ledger, self._broker)
        self._samples.append(QueueSample(datetime.now(UTC), found, round(rate, 3), oldest))

    def _oldest(self) -> float | None:
        now = time.monotonic()
        waiting = [
            each.token
            for run in queues.running(self._ledger)
            for each in self._ledger.batches.waiting(run.id, LOOKED_AT)
        ]
        self._seen = {token: self._seen.get(token, now) for token in waiting}
        return round(now - min(self._seen.values()), 3) if self._seen else None


@dataclass(frozen=True, slots=True)
class WorkerCounters:
    """What a worker process has done since its start, or since the counters were reset."""

    name: str
    host: str
    pid: int
    processed: int
    failed: int
    active: int


COUNTERS = "worker counters"


def worker_counters(ledger: Ledger) -> tuple[Sequence[WorkerCounters], datetime | None]:
    """The live workers' counts, and when they were reset."""
    found, failed = _workers(ledger)
    kept = ledger.leases.recall(COUNTERS)
    base = {row["name"]: row for row in kept[0]["workers"]} if kept else {}
    nothing = {"processed": 0, "failed": 0}
    counted = [
        WorkerCounters(
            each.name, each.host, each.pid, max(0, each.done - base.get(each.name, nothing)["processed"]),
            max(0, failed.get(each.name, 0) - base.get(each.name, nothing)["failed"]), len(each.in_hand),
        )
        for each in found
    ]  # fmt: skip
    return counted, kept[1] if kept else None


def _workers(ledger: Ledger) -> tuple[Sequence[Worker], Mapping[str, int]]:
    """The live workers, and batches of each with unresolved failures."""
    found = ledger.leases.workers(ALIVE)
    return found, ledger.failures.by_worker([each.name for each in found])


def reset_counters(ledger: Ledger, who: str) -> int:
    """Count from now on: of how many live workers."""
    found, failed = _workers(ledger)
    rows = [{"name": each.name, "processed": each.done, "failed": failed.get(each.name, 0)} for each in found]
    ledger.leases.remember(COUNTERS, {"workers": rows}, who=who)
    return len(rows)
