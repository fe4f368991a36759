"""A whole system inside the test's process: coordinator, sweep and slots as threads. For what needs no death."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.conftest import SHORT

from whimbrel.brokers.ledger import LedgerBroker, LedgerFeed
from whimbrel.domain.migration import Migration
from whimbrel.domain.runs import Run
from whimbrel.domain.states import ENDED, RunStatus
from whimbrel.engine.announce import Announcer
from whimbrel.engine.coordinate import Coordinator
from whimbrel.engine.slot import Crew, work
from whimbrel.engine.start import Defaults, start_run
from whimbrel.engine.view import RunView, view
from whimbrel.engine.watch import watch
from whimbrel.mongo.store import MongoStore
from whimbrel.ports import Broker, Feed

DEFAULTS = Defaults(batch_size=500, max_attempts=3, retry_delay=0.05)


def nothing(_step: str) -> None:
    """No hook."""


def start(store: MongoStore, it: Migration, **options: Any) -> Run:
    return start_run(store, it.definition, who="test", defaults=DEFAULTS, **options)


@contextmanager
def system(
    store: MongoStore,
    migrations: Sequence[Migration],
    *,
    slots: int = 2,
    step: Callable[[str], None] = nothing,
    name: str = "inline",
    broker: Broker | None = None,
    feed: Feed | None = None,
) -> Iterator[Crew]:
    broker, feed = broker or LedgerBroker(), feed or LedgerFeed()
    crew = Crew({each.name: each for each in migrations}, name, None)
    over = threading.Event()
    announcer = Announcer(store.ledger, broker, pause=SHORT.broker)
    coordinator = Coordinator(store, announcer, name=name, role_seconds=SHORT.lease, step=step)

    def coordinate() -> None:
        while not over.is_set():
            coordinator.tick()
            over.wait(SHORT.tick)

    threads = [threading.Thread(target=coordinate)]
    threads += [
        threading.Thread(
            target=work,
            args=(store, crew, feed),
            kwargs={"times": SHORT, "step": step, "urgent": number >= slots},
        )
        for number in range(slots + (not feed.polled))
    ]
    about = {"host": "here", "pid": 0, "version": "0", "slots": slots}
    watcher = {"times": SHORT, "die": crew.drain, "beat": over.is_set, "about": about}
    watching = threading.Thread(target=_watch, args=(store, crew, over, watcher), daemon=True)
    for thread in [*threads, watching]:
        thread.start()
    try:
        yield crew
    finally:
        over.set()
        crew.drain()
        for thread in [*threads, watching]:
            thread.join(20)


class _Over(Exception):
    pass


def _watch(store: MongoStore, crew: Crew, over: threading.Event, options: dict[str, Any]) -> None:
    def beat() -> None:
        if over.is_set():
            raise _Over

    try:
        watch(store, crew, **{**options, "beat": beat})
    except _Over:
        return


def until(store: MongoStore, run: Run, *statuses: RunStatus, seconds: float = 60) -> RunView:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = store.ledger.runs.get(run.id)
        assert found is not None
        if found.status in (statuses or ENDED):
            return view(store.ledger, found)
        time.sleep(0.02)
    raise AssertionError(f"still {store.ledger.runs.get(run.id)}: {store.ledger.batches.list(run.id)}")


def migrate(store: MongoStore, it: Migration, **options: Any) -> RunView:
    """Run a migration to its end."""
    with system(store, [it]):
        return until(store, start(store, it, **options))
