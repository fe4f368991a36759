"""Releases what hangs: queues again what lost leases hold, and tells of each run that does not move why."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.domain.runs.workers import WORKERS_SEEN
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.ports import Store

PROBE = "probe"  # a name that holds no role, but asks whether somebody does


@dataclass(frozen=True, slots=True)
class Stuck:
    """A run that does not move, and why."""

    run: Run
    reasons: tuple[str, ...]


def release_stuck(store: Store, announcer: Announcer, *, who: str) -> tuple[Sequence[Batch], list[Stuck]]:
    """Queues again what lost leases hold, now. Returns those batches, and the runs that do not move, with the reasons. Audited."""
    released = store.ledger.batches.take_over()
    announcer.announce_released(released)
    for run_id, count in Counter(batch.run for batch in released).items():
        store.ledger.leases.audit(f"{count} lost batches queued again", run=run_id, who=who)
    stuck = []
    ledger = store.ledger
    for run_id in [run.id for run in ledger.runs.at_work()] + list(ledger.runs.in_line()):
        run = ledger.runs.get(run_id)
        if run is not None and (reasons := tuple(_reasons(store, run))):
            stuck.append(Stuck(run, reasons))
    for run_id, waiting_count in ledger.runs.waiting():
        run = ledger.runs.get(run_id)
        if run is not None and run.status is RunStatus.QUEUED:
            behind = f" Behind it wait {waiting_count:,} more." if waiting_count else ""
            holder = ledger.runs.holder(run.ns)
            stuck.append(Stuck(run, (f"It waits for run {holder}, which holds {run.ns}.{behind}",)))
    return released, stuck


def _reasons(store: Store, run: Run) -> Iterable[str]:
    ledger = store.ledger
    if ledger.leases.lead(f"coordinator:{run.id}", PROBE, 0):
        yield "Nobody coordinated it; a process that can does so from now on."
    if run.status is RunStatus.QUEUED:
        return
    if run.status is RunStatus.RUNNING:
        if not ledger.leases.slots(WORKERS_SEEN, run=run):
            yield "No live worker has its migration's code: start some, or resume it with the code that they have."
    elif held_count := ledger.batches.count(run.id, [BatchStatus.RUNNING]):
        yield f"{held_count} of its batches are still held under a lease; it ends when they are given back."
