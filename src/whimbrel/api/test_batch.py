"""Tries the queue: inserts sample documents, migrates them by a real run and real workers, checks and removes them."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

from whimbrel.api.deployment import System
from whimbrel.api.http_errors import ApiError
from whimbrel.api.models.queues import BrokerName, Tried
from whimbrel.bootstrap import samples
from whimbrel.domain.migrations.catalog import choose
from whimbrel.domain.runs.freezes import in_force
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.workers import ALIVE
from whimbrel.engine.operating.start import asked_through, draft_run
from whimbrel.engine.queueing import queues
from whimbrel.errors import CollectionBusy
from whimbrel.ports.ledger import CONSUMERS
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.samples.seeder import documents

LONGEST = 30.0  # seconds until the run must have ended
CANCELLING = 5.0  # seconds to cancel a run that has not ended
CHECKING = 5.0


def try_batch(system: System, who: str, count: int, broker: BrokerName) -> Tried:
    """Migrates `count` sample documents. Raises ApiError (409, 503), CollectionBusy; always removes the documents."""
    began = time.perf_counter()
    workers = _check_workers(system)
    store = system.deployment.store
    definition, trial = choose(system.loaded, SOME_MODEL.name), f"trial-{secrets.token_hex(8)}"
    ns = f"{store.database}.{definition.collection}"
    _check_collection_free(system, ns)
    try:
        for _ in samples(store).insert(_documents(trial, count)):
            pass
        run = draft_run(
            store, definition, defaults=system.settings.defaults, filter_={"testBatch": trial, "status": "pending"},
            batch_size=count, limit=count,
        )  # fmt: skip
        run = asked_through(run, "POST /queue/test-batch")
        started = time.perf_counter()
        store.ledger.runs.add(run, who)
        _wait_for_end(system, run.id, who)
        migrated = time.perf_counter() - started
        _check(system, run, trial, count)
    finally:
        samples(store).remove_trial(trial)
    return Tried(
        broker=broker, migration_id=run.id, count=count, workers=workers, migrated_ms=round(migrated * 1000, 3),
        total_ms=round((time.perf_counter() - began) * 1000, 3),
    )  # fmt: skip


def _documents(trial: str, count: int) -> Iterator[dict[str, Any]]:
    for document in documents(count):
        yield {**document, "testBatch": trial}


def _check_workers(system: System) -> int:
    leases = system.deployment.store.ledger.leases
    if leases.is_off(CONSUMERS):
        raise ApiError(
            409, "consumers_stopped", "All consumers are stopped. Start them: POST /queue/consumers/start."
        )
    look = system.deployment.store.ledger.freezes.look()
    if freeze := in_force(look.freezes, look.now):
        raise ApiError(
            409, "frozen", f"Runs wait for the freeze {freeze.id}, and a trial would too. Lift it: DELETE /freeze/{freeze.id}"
        )  # fmt: skip
    workers = queues.workers_with_code(leases.workers(ALIVE), choose(system.loaded, SOME_MODEL.name))
    if not workers:
        raise ApiError(
            409,
            "no_workers",
            "No worker process is alive that could take the batch. Start some: whimbrel worker.",
        )
    return len(workers)


def _check_collection_free(system: System, ns: str) -> None:
    holder = system.deployment.store.ledger.runs.holder(ns)
    if holder is not None:
        raise CollectionBusy(f"Run {holder} works on {ns}: a trial would wait for it. Try again at its end.")


def _wait_for_end(system: System, run_id: str, who: str) -> None:
    ledger = system.deployment.store.ledger
    if queues.wait_for_end(ledger, run_id, LONGEST) is None:
        queues.cancel_after(ledger, run_id, CANCELLING, who)
        raise ApiError(
            503, "trial_timed_out", f"Run {run_id} did not end within {LONGEST:g} seconds, and was cancelled. Its documents are removed."
        )  # fmt: skip


def _check(system: System, run: Run, trial: str, count: int) -> None:
    success = {"testBatch": trial, "status": "success", "data.processed": True}
    migrated = system.deployment.store.survey(run).count(success, CHECKING)
    if migrated != count:
        problem = (
            "could not be counted in time" if migrated is None else f"{migrated} of {count} were migrated"
        )
        raise ApiError(
            503, "trial_failed", f"Run {run.id} ended, but of its documents {problem}. They are removed."
        )
