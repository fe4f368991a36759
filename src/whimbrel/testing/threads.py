"""Runs a whole system inside one process: coordinator, heartbeat and slots as threads."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.engine.coordinating.coordinator import Coordinator
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.engine.running.heartbeat import keep_heartbeat
from whimbrel.engine.running.slot import run_slot
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.ports import Broker, Feed, Store


@contextmanager
def threads(
    store: Store,
    migrations: Sequence[Migration],
    *,
    times: Times,
    broker: Broker,
    feed: Feed,
    step: Callable[[str], None],
    slots: int = 2,
    name: str = "inline",
) -> Iterator[WorkerState]:
    """Runs the system while this is entered. `step` is called at each numbered step of the protocol."""
    worker_state = WorkerState({migration.name: migration for migration in migrations}, name, None)
    ended = threading.Event()
    announcer = Announcer(store.ledger, broker, pause=times.broker)
    coordinator = Coordinator(store, announcer, name=name, role_seconds=times.lease, step=step)

    def coordinate() -> None:
        while not ended.is_set():
            coordinator.tick()
            ended.wait(times.tick)

    all_threads = [threading.Thread(target=coordinate)]
    all_threads += [
        threading.Thread(
            target=run_slot,
            args=(store, worker_state, feed),
            kwargs={"times": times, "step": step, "urgent": number >= slots},
        )
        for number in range(slots + (not feed.polled))
    ]
    process = {"host": "here", "pid": 0, "version": "0"}
    watcher = {"times": times, "die": worker_state.drain, "about": process}
    all_threads.append(
        threading.Thread(target=_watch, args=(store, worker_state, ended, watcher), daemon=True)
    )
    for thread in all_threads:
        thread.start()
    try:
        yield worker_state
    finally:
        ended.set()
        worker_state.drain()
        for thread in all_threads:
            thread.join(20)


class _Over(Exception):
    pass


def _watch(store: Store, worker_state: WorkerState, ended: threading.Event, options: dict[str, Any]) -> None:
    def beat() -> None:
        if ended.is_set():
            raise _Over

    try:
        keep_heartbeat(store, worker_state, **{**options, "beat": beat})
    except _Over:
        return
