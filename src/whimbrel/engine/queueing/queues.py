"""The queue as a whole: how deep it is, who takes from it, stopping and starting that, emptying it, retrying failures."""

import contextlib
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from whimbrel.domain.failures.causes import GROUPS
from whimbrel.domain.failures.failure import FailureState
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.run import Run, RunAtWork
from whimbrel.domain.runs.states import BatchStatus, RunStatus, sources
from whimbrel.domain.runs.workers import ALIVE, Worker
from whimbrel.engine.operating import control
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.errors import StateForbids
from whimbrel.ports import Broker, Ledger
from whimbrel.ports.broker import DEAD_LETTER_QUEUE, LANE_QUEUES, Depth, lane_name
from whimbrel.ports.ledger import CONSUMERS

LOOK = 0.1  # seconds between two looks at an awaited state
SEEN_BY_ALL = 1.0  # seconds after which every live worker has seen a switch
BrokerName = Literal["ledger", "rabbitmq"]


@dataclass(frozen=True, slots=True)
class Queue:
    """One queue: what lies ready, what workers work on, who takes from it."""

    ready: int
    in_hand: int
    consumers: int


@dataclass(frozen=True, slots=True)
class Stats:
    broker: BrokerName
    queues: Mapping[str, Queue]
    consumers: int

    @property
    def ready(self) -> int:
        return sum(queue.ready for queue in self.queues.values())


@dataclass(frozen=True, slots=True)
class SkippedRun:
    """A run whose dead failures are not retried, and why."""

    run: str
    dead: int
    why: str


def name_of(broker: Broker) -> BrokerName:
    return "ledger" if broker.queues is None else "rabbitmq"


def running(ledger: Ledger) -> Sequence[RunAtWork]:
    return [run for run in ledger.runs.at_work() if run.status is RunStatus.RUNNING]


def stats(ledger: Ledger, broker: Broker) -> Stats:
    """Returns the depth of every queue; without a server: queued batches of running runs, and slots. Raises BrokerUnavailable."""
    queued, held = _by_lane(ledger)
    if broker.queues is not None:
        depths = broker.queues.depths()
        consumers = sum(depth.consumers for depth in depths.values())
    else:
        slots = sum(worker.slots for worker in ledger.leases.workers(ALIVE))
        depths = {name: Depth(queued.get(name, 0), slots) for name in LANE_QUEUES.values()}
        depths[DEAD_LETTER_QUEUE] = Depth(0, 0)
        consumers = slots
    queues = {name: Queue(depth.ready, held.get(name, 0), depth.consumers) for name, depth in depths.items()}
    return Stats(name_of(broker), queues, consumers)


def _by_lane(ledger: Ledger) -> tuple[dict[str, int], dict[str, int]]:
    """Returns queued batches of running runs, and running batches of all runs, by queue."""
    runs: dict[str, RunAtWork | Run | None] = {run.id: run for run in ledger.runs.at_work()}
    at_work = [run.id for run in runs.values() if run is not None and run.status is RunStatus.RUNNING]
    queued: dict[str, int] = {}
    held: dict[str, int] = {}
    for (run_id, retry, status), count in ledger.batches.open_counts(at_work).items():
        run = runs[run_id] if run_id in runs else runs.setdefault(run_id, ledger.runs.get(run_id))
        if run is None:
            continue
        counts = queued if status is BatchStatus.QUEUED else held
        queue = LANE_QUEUES[lane_name(urgent=run.urgent, retry=retry)]
        counts[queue] = counts.get(queue, 0) + count
    return queued, held


def in_hand(ledger: Ledger) -> int:
    """Returns how many batches workers hold."""
    counts = ledger.batches.open_counts([])
    return sum(count for (_, _, status), count in counts.items() if status is BatchStatus.RUNNING)


def workers_with_code(workers: Sequence[Worker], definition: Definition) -> Sequence[Worker]:
    """Returns those of these workers that take batches of any run of this migration."""
    return [
        worker
        for worker in workers
        if worker.only is None and worker.code.get(definition.name) == definition.code_hash
    ]


def round_trip(ledger: Ledger, broker: Broker, seconds: float) -> float:
    """Returns how many seconds a message needs through the broker and back, or a row into the ledger. Raises BrokerUnavailable."""
    return ledger.leases.probe() if broker.queues is None else broker.queues.round_trip(seconds)


def restart(ledger: Ledger, seconds: float, who: str) -> bool:
    """Stops consumers, waits until nobody holds a batch, starts them. Returns False where somebody still did after so many seconds; they are started all the same.

    If somebody else stops them meanwhile, they stay stopped.
    """
    ticket = secrets.token_hex(8)
    ledger.leases.switch(CONSUMERS, on=False, who=who, ticket=ticket)
    try:
        began = time.monotonic()
        time.sleep(SEEN_BY_ALL)
        while held_batches := in_hand(ledger):
            if time.monotonic() - began > seconds:
                break
            time.sleep(LOOK)
        return not held_batches
    finally:
        ledger.leases.switch(CONSUMERS, on=True, who=who, ticket=ticket)


def purge(ledger: Ledger, announcer: Announcer, queue: str, who: str) -> int:
    """Removes what lies ready in a queue. Returns how many messages. Raises BrokerUnavailable, BrokerRefused.

    No batch is lost: the batches of running runs are announced again at once.
    """
    queues = announcer.broker.queues
    if queues is None:
        return 0
    purged = queues.purge(queue)
    ledger.leases.audit(f"{purged} messages of {queue} purged", run="", who=who)
    if queue != DEAD_LETTER_QUEUE:
        for run_at_work in running(ledger):
            run = ledger.runs.get(run_at_work.id)
            if run is not None and run.status is RunStatus.RUNNING:
                announcer.announce_all(run)
    return purged


def retry_dead(
    ledger: Ledger, loaded: Mapping[str, Definition], limit: int, who: str
) -> tuple[dict[str, int], list[SkippedRun]]:
    """Reopens dead failures, at most so many. Returns how many by run, oldest run first, and the runs that were skipped.

    A run continues by the code that is loaded. From a run with more failures than the limit has left, the largest group that fits is taken.
    """
    opened: dict[str, int] = {}
    skipped = []
    statuses = {*sources(RunStatus.QUEUED), RunStatus.RUNNING, RunStatus.CANCELLED}
    for run in ledger.runs.every(statuses):
        dead = ledger.failures.counts(run.id)["dead"]
        if not dead:
            continue
        try:
            opened[run.id] = _retry(ledger, loaded, run, limit - sum(opened.values()), dead, who)
        except StateForbids as error:
            skipped.append(SkippedRun(run.id, dead, str(error)))
    return opened, skipped


def _retry(
    ledger: Ledger, loaded: Mapping[str, Definition], run: Run, limit: int, dead: int, who: str
) -> int:
    definition = loaded.get(run.migration)
    if run.kind == "verification":
        raise StateForbids(
            f"It is a verification: what it found is no work to be tried again. Look at it: whimbrel failures {run.id}."
        )
    if run.kind != "migration":
        raise StateForbids(f"It is a {run.kind}, and is retried alone: whimbrel retry {run.id}.")
    if definition is None:
        raise StateForbids(f"Migration {run.migration!r} is not loaded here.")
    group = None
    if dead > limit:
        groups = ledger.failures.groups(run.id, state=FailureState.DEAD, limit=GROUPS).groups
        fitting = [group_row for group_row in groups if group_row.dead <= limit]
        if not fitting:
            raise StateForbids(
                f"It has {dead} dead failures, and {limit} are left of the limit: whimbrel retry {run.id}."
            )
        group = max(fitting, key=lambda group_row: group_row.dead).group
    return control.retry(ledger, run.id, who=who, group=group, code=definition)[1]


def wait_for_end(ledger: Ledger, run_id: str, seconds: float) -> Run | None:
    """Waits until the run has ended, and returns it; None where that takes longer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        run = ledger.runs.get(run_id)
        if run is not None and run.ended_at is not None:
            return run
        time.sleep(LOOK)
    return None


def cancel_after(ledger: Ledger, run_id: str, seconds: float, who: str) -> None:
    """Cancels a run, and waits a little for its end."""
    with contextlib.suppress(StateForbids):
        control.cancel(ledger, run_id, who=who)
    wait_for_end(ledger, run_id, seconds)
