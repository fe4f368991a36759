"""The heartbeat of a worker process: renews leases while there is progress, and ends a function that hangs.

A lease is prolonged only while the batch makes progress within its limits (hole H27): a process that is stuck
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

CANCEL_SECONDS = 2.0  # in which a cancelled call must end
BEAT = 2.0  # seconds between two signs of life
BLOCKED = 1.0  # seconds after which a loop that does not run counts as blocked


def hung_after(run: Run, times: Times) -> float:
    """Returns the seconds without progress after which a batch counts as stuck: a call's time limit, statements, and a margin."""
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
    """Runs until every slot has ended; `die` ends the process, `beat` tells the parent that it lives.

    `about`: what the registry should know of this process: host, pid, version.
    """
    beat_at, told = 0.0, dict[str, Any]()
    while not worker_state.ended.is_set():
        woken = worker_state.wake_up.is_set()
        worker_state.wake_up.clear()
        beat()
        try:
            _check_leases(store, worker_state, times, die)
            if woken:
                worker_state.news.set()
            facts = _facts(worker_state)
            if time.monotonic() - beat_at > BEAT or _is_awaited(told, facts):
                beat_at, told = time.monotonic(), facts
                store.ledger.leases.beat(worker_state.name, **{**about, **facts})
        except Transient as error:
            log.warning("the ledger does not answer", error=str(error))
        except LedgerFormat as error:  # upgraded by a newer program: this process must end
            log.error("this process ends", reason=str(error))  # noqa: TRY400  the reason tells everything
            worker_state.drain()
        except Exception:  # this thread must outlive whatever the ledger answers
            log.exception("the heartbeat met an error")
        worker_state.wake_up.wait(min(times.control, times.lease / 8))


def _facts(worker_state: WorkerState) -> dict[str, Any]:
    """Returns what a worker process tells the registry about its work."""
    return {
        "slots": 0 if worker_state.stopping.is_set() else worker_state.slots,  # that may take another batch
        "loading": False,
        "only": worker_state.only,
        "code": [{"migration": migration.name, "hash": migration.definition.code_hash} for migration in worker_state.migrations.values()],
        "done": worker_state.done,
        "inHand": [_in_hand(worker_state, lease) for lease in list(worker_state.holds.values())],
        "refuses": [
            {"run": run, "pinned": pinned, "here": loaded} for (run, pinned), loaded in list(worker_state.refused.items())
        ],
    }  # fmt: skip


def _in_hand(worker_state: WorkerState, lease: Lease) -> dict[str, Any]:
    """Returns a batch in hand, with the newest change of its run's settings that both its slot and this process know of."""
    changes = min(lease.changes, worker_state.admitted.get(lease.run.id, lease.changes))
    return {
        "batch": lease.batch.token,
        "since": lease.batch.claimed_at,
        "changes": changes,
        "stops": lease.stop,
    }


def _is_awaited(told: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    """Whether somebody may wait for this news: other slots, as when a process drains, or slots have seen something of what they have in hand."""
    if told.get("slots") != facts["slots"]:
        return True
    before = {held["batch"]: (held["changes"], held["stops"]) for held in told["inHand"]}
    return any(
        before.get(held["batch"], seen) != seen
        for held in facts["inHand"]
        if (seen := (held["changes"], held["stops"]))
    )


def _check_leases(store: Store, worker_state: WorkerState, times: Times, die: Callable[[], None]) -> None:
    leases = list(worker_state.holds.values())
    _renew_all(store, leases, times)
    if hanging := _hanging_calls(worker_state, leases):
        _end_hanging(store, hanging)
        die()
    if any(_is_stuck(lease, times) for lease in leases):
        log.error("a batch is stuck; the process ends")
        die()
    worker_state.refresh(store)


def _is_stuck(lease: Lease, times: Times) -> bool:
    return time.monotonic() - lease.progress > hung_after(lease.run, times)


def _renew_all(store: Store, leases: list[Lease], times: Times) -> None:
    for lease in leases:
        if lease.due and not _is_stuck(lease, times) and not lease.lost:
            try:
                lease.renew(store.ledger.batches)
            except LeaseLost:
                log.info("lease lost", batch=lease.batch.token)


def _hanging_calls(worker_state: WorkerState, leases: list[Lease]) -> list[tuple[Lease, Key]]:
    """Returns the calls that take longer than they may.

    An awaited call is cancelled at its time limit, and found here when it continues all the same. A call that blocks the loop
    keeps others from ending in time: then it alone is charged.
    """
    now, blocked = time.monotonic(), worker_state.loop.blocked
    if blocked > BLOCKED:
        call: Any = worker_state.loop.current_call
        too_long = call is not None and blocked > call[0].run.timeout
        return [call] if too_long else []
    hanging = [
        (lease, lease.calling[0])
        for lease in leases
        if lease.calling is not None and now - lease.calling[1] > lease.run.timeout
    ]
    for lease in leases:
        hanging += [
            (lease, key)
            for key, since in list(lease.awaited.items())
            if now - since > lease.run.timeout + CANCEL_SECONDS
        ]
    return hanging


def _end_hanging(store: Store, hanging: list[tuple[Lease, Key]]) -> None:
    """Records the hanging calls. The parent sees the process die, and gives its leases back."""
    for lease, key in hanging:
        try:
            record_failures(store.ledger, lease, [hung_call(key, lease.run.timeout)])
        except LeaseLost:
            continue
        fields = lease.run.marking.failed(stamp(lease.batch.token, FAILED))
        if fields:
            unmarked = lease.run.marking.unmarked(lease.batch.phase, retry=True)
            write = Write(
                eligible=unmarked,
                until=lease.until,
                mark=lease.run.marking,
                token=lease.batch.token,
                undo=lease.run.undoing,
            )
            store.session().documents(lease.run).mark_failed([key], fields, write)
