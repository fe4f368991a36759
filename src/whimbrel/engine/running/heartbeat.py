"""The heartbeat of a worker process: leases are renewed while there is progress, and a function that hangs is ended.

A lease is prolonged only while the batch moves on within its limits (hole H27): a process that is stuck
loses its batches even though this thread lives.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import structlog

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import hung_call
from whimbrel.domain.migrations.marks import FAILED, stamp
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.run import Run
from whimbrel.engine.executing.failure_recording import record_failures
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.errors import LeaseLost, LedgerFormat, Transient
from whimbrel.ports import Store, Write

log = structlog.get_logger("whimbrel.worker")

AIR = 2.0  # seconds in which a call that was cancelled must end
BLOCKED = 1.0  # seconds after which a loop that does not turn is taken for blocked


def hung_after(run: Run, times: Times) -> float:
    """Seconds without progress after which a batch counts as stuck: a call's time limit, statements, and some air."""
    return run.timeout + 2 * times.statement + times.chunk + 5


def keep_heartbeat(
    store: Store,
    worker_state: WorkerState,
    *,
    times: Times,
    die: Callable[[], None],
    beat: Callable[[], None],
    about: Mapping[str, Any],
) -> None:
    """Run until every slot has ended; `die` ends the process, `beat` tells the parent that it lives.

    `about`: what the registry shall know of this process: host, pid, version.
    """
    seen = 0.0
    while not worker_state.over.is_set():
        told = worker_state.look.is_set()
        worker_state.look.clear()
        beat()
        try:
            _look(store, worker_state, times, die)
            if told:
                worker_state.news.set()
            if time.monotonic() - seen > 2:  # noqa: PLR2004  seconds between two signs of life
                seen = time.monotonic()
                store.ledger.leases.beat(worker_state.name, **{**about, **_facts(worker_state)})
        except Transient as error:
            log.warning("the ledger does not answer", error=str(error))
        except LedgerFormat as error:  # upgraded by a newer program: what is here must end
            log.error("this process ends", reason=str(error))  # noqa: TRY400  the reason is the whole story
            worker_state.drain()
        except Exception:  # this thread must outlive whatever the ledger says
            log.exception("the heartbeat met an error")
        worker_state.look.wait(min(times.control, times.lease / 8))


def _facts(worker_state: WorkerState) -> dict[str, Any]:
    """What a worker process says of its work in the registry."""
    return {
        "slots": worker_state.slots,
        "loading": False,
        "only": worker_state.only,
        "code": [{"migration": each.name, "hash": each.definition.code_hash} for each in worker_state.migrations.values()],
        "done": worker_state.done,
        "inHand": [{"batch": each.batch.token, "since": each.batch.claimed_at} for each in list(worker_state.holds.values())],
        "refuses": [
            {"run": run, "pinned": pinned, "here": here} for (run, pinned), here in list(worker_state.refused.items())
        ],
    }  # fmt: skip


def _look(store: Store, worker_state: WorkerState, times: Times, die: Callable[[], None]) -> None:
    leases = list(worker_state.holds.values())
    _renew_all(store, leases, times)
    if hanging := _hanging(worker_state, leases):
        _end_hanging(store, hanging)
        die()
    if any(_stuck(lease, times) for lease in leases):
        log.error("a batch is stuck; the process ends")
        die()
    worker_state.refresh(store)


def _stuck(lease: Lease, times: Times) -> bool:
    return time.monotonic() - lease.progress > hung_after(lease.run, times)


def _renew_all(store: Store, leases: list[Lease], times: Times) -> None:
    for lease in leases:
        if lease.due and not _stuck(lease, times) and not lease.lost:
            try:
                lease.renew(store.ledger.batches)
            except LeaseLost:
                log.info("lease lost", batch=lease.batch.token)


def _hanging(worker_state: WorkerState, leases: list[Lease]) -> list[tuple[Lease, Key]]:
    """Calls that take longer than they may.

    An awaited one is cancelled at its time, and found here when it goes on all the same. One that does not give the loop
    back keeps others from ending in time: then it alone is charged.
    """
    now, blocked = time.monotonic(), worker_state.loop.blocked
    if blocked > BLOCKED:
        call: Any = worker_state.loop.current_call
        late = call is not None and blocked > call[0].run.timeout
        return [call] if late else []
    found = [
        (lease, lease.calling[0])
        for lease in leases
        if lease.calling is not None and now - lease.calling[1] > lease.run.timeout
    ]
    for lease in leases:
        found += [
            (lease, key)
            for key, since in list(lease.awaited.items())
            if now - since > lease.run.timeout + AIR
        ]
    return found


def _end_hanging(store: Store, hanging: list[tuple[Lease, Key]]) -> None:
    """Record what hangs. What the process leases is given back by its parent, which sees it die."""
    for lease, key in hanging:
        try:
            record_failures(store.ledger, lease, [hung_call(key, lease.run.timeout)])
        except LeaseLost:
            continue
        fields = lease.run.marking.failed(stamp(lease.batch.token, FAILED))
        if fields:
            anyhow = lease.run.marking.unmarked(lease.batch.phase, retry=True)
            write = Write(
                eligible=anyhow,
                until=lease.until,
                mark=lease.run.marking,
                token=lease.batch.token,
                undo=lease.run.undoing,
            )
            store.session().documents(lease.run).mark_failed([key], fields, write)
