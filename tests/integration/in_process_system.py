"""A whole system inside the test's process: coordinator and slots as threads. For what needs no death."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from whimbrel.brokers.ledger import LedgerBroker, LedgerFeed
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.run_view import RunView, view
from whimbrel.engine.operating.start import Defaults, start_run
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.mongo.store import MongoStore
from whimbrel.ports import Broker, Feed
from whimbrel.testing.threads import threads

DEFAULTS = Defaults(batch_size=500, max_attempts=3, retry_delay=0.05)


def nothing(_step: str) -> None:
    """No hook."""


def start(store: MongoStore, it: Migration, **options: Any) -> Run:
    return start_run(store, it.definition, who="test", defaults=DEFAULTS, **options)


def system(
    store: MongoStore,
    migrations: Sequence[Migration],
    *,
    broker: Broker | None = None,
    feed: Feed | None = None,
    step: Callable[[str], None] = nothing,
    **options: Any,
) -> AbstractContextManager[WorkerState]:
    """The system at work, by the times of its store."""
    broker, feed = broker or LedgerBroker(), feed or LedgerFeed()
    return threads(store, migrations, times=store._times, broker=broker, feed=feed, step=step, **options)


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
