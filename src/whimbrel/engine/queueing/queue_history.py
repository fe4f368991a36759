"""Samples the queue over the last minutes in a thread of this process, from the first request until nobody asks any more."""

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
SPAN = 60.0  # seconds over which the rate is measured
LOOKED_AT = 1000  # first queued batches of a run: among them is the one that has waited longest


@dataclass(frozen=True, slots=True)
class QueueSample:
    """The queue at one moment. `oldest`: seconds since this process first saw the batch that has waited longest."""

    taken_at: datetime
    stats: queues.Stats
    settled: float
    oldest: float | None

    @property
    def in_hand(self) -> int:
        return sum(queue.in_hand for queue in self.stats.queues.values())


class QueueSampler:
    """The samples of one process. `alive`: whether the ledger and the broker are still open."""

    def __init__(self, ledger: Ledger, broker: Broker, alive: Callable[[], bool]) -> None:
        self._ledger, self._broker, self._alive = ledger, broker, alive
        self._samples: deque[QueueSample] = deque(maxlen=KEPT)
        self._seen: Mapping[str, float] = {}  # queued batch -> when this process saw it first
        self._lock = threading.Lock()
        self._asked = 0.0
        self._thread: threading.Thread | None = None

    def history(self) -> Sequence[QueueSample]:
        """Returns the samples so far, the newest last. Raises BrokerUnavailable, BrokerRefused, Transient where there is no current one."""
        self._asked = time.monotonic()
        with self._lock:
            newest = self._samples[-1] if self._samples else None
            if newest is None or (datetime.now(UTC) - newest.taken_at).total_seconds() > 2 * EVERY:
                self._take_sample()
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
                        self._take_sample()
            except WhimbrelError as error:
                log.debug("no sample", reason=str(error))
            except Exception:
                if self._alive():  # otherwise the ledger was closed meanwhile
                    log.exception("sampling broke")
                    return

    def _take_sample(self) -> None:
        rate = self._ledger.batches.settled(SPAN) / SPAN
        oldest = self._longest_wait()
        stats = queues.stats(self._ledger, self._broker)
        self._samples.append(QueueSample(datetime.now(UTC), stats, round(rate, 3), oldest))

    def _longest_wait(self) -> float | None:
        now = time.monotonic()
        waiting = [
            batch.token
            for run in queues.running(self._ledger)
            for batch in self._ledger.batches.waiting(run.id, LOOKED_AT)
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
    """Returns the live workers' counters, and when they were reset."""
    workers, failed = _live_workers(ledger)
    reset = ledger.leases.recall(COUNTERS)
    at_reset = {row["name"]: row for row in reset[0]["workers"]} if reset else {}
    nothing = {"processed": 0, "failed": 0}
    counted = [
        WorkerCounters(
            worker.name, worker.host, worker.pid, max(0, worker.done - at_reset.get(worker.name, nothing)["processed"]),
            max(0, failed.get(worker.name, 0) - at_reset.get(worker.name, nothing)["failed"]), len(worker.in_hand),
        )
        for worker in workers
    ]  # fmt: skip
    return counted, reset[1] if reset else None


def _live_workers(ledger: Ledger) -> tuple[Sequence[Worker], Mapping[str, int]]:
    """Returns the live workers, and for each the number of batches with unresolved failures."""
    workers = ledger.leases.workers(ALIVE)
    return workers, ledger.failures.by_worker([worker.name for worker in workers])


def reset_counters(ledger: Ledger, who: str) -> int:
    """Resets the counters. Returns for how many live workers."""
    workers, failed = _live_workers(ledger)
    rows = [
        {"name": worker.name, "processed": worker.done, "failed": failed.get(worker.name, 0)}
        for worker in workers
    ]
    ledger.leases.remember(COUNTERS, {"workers": rows}, who=who)
    return len(rows)
