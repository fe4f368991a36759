"""The heartbeat of a worker process: leases are renewed while there is progress, and a function that hangs is ended.

A lease is prolonged only while the batch moves on within its limits (hole H27): a process that is stuck
loses its batches even though this thread lives.
"""

import time
from collections.abc import Callable

import structlog

from whimbrel.domain.failures import Kind, Trouble
from whimbrel.domain.marks import FAILED, stamp
from whimbrel.domain.runs import Run
from whimbrel.domain.times import Times
from whimbrel.engine.slot import Crew
from whimbrel.engine.work import Hold, renew
from whimbrel.errors import LeaseLost, Transient
from whimbrel.ports import Store, Write

log = structlog.get_logger("whimbrel.worker")


def stuck_after(run: Run, times: Times) -> float:
    """Seconds without progress after which a batch counts as stuck: a call's time limit, statements, and some air."""
    return run.timeout + 2 * times.statement + times.chunk + 5


def watch(
    store: Store, crew: Crew, *, times: Times, die: Callable[[], None], beat: Callable[[], None], slots: int
) -> None:
    """Run until every slot has ended; `die` ends the process, `beat` tells the parent that it lives."""
    seen = 0.0
    while not crew.over.is_set():
        beat()
        try:
            _renew_all(store, crew, times)
            if any(_hangs(hold) for hold in crew.holds.values()):
                _end_hanging(store, crew)
                die()
            if any(
                time.monotonic() - hold.progress > stuck_after(hold.run, times)
                for hold in list(crew.holds.values())
            ):
                log.error("a batch is stuck; the process ends")
                die()
            crew.refresh(store)
            if time.monotonic() - seen > 2:  # noqa: PLR2004  seconds between two signs of life
                seen = time.monotonic()
                store.ledger.leases.beat(crew.name, slots=slots, only=crew.only)
        except Transient as error:
            log.warning("the ledger does not answer", error=str(error))
        crew.over.wait(min(times.control, times.lease / 8))


def _renew_all(store: Store, crew: Crew, times: Times) -> None:
    for hold in list(crew.holds.values()):
        stuck = time.monotonic() - hold.progress > stuck_after(hold.run, times)
        if time.monotonic() - hold.renewed > times.lease / 2 and not stuck and not hold.lost:
            try:
                renew(store.ledger, hold)
            except LeaseLost:
                log.info("lease lost", batch=hold.batch.token)


def _hangs(hold: Hold) -> bool:
    calling = hold.calling
    return calling is not None and time.monotonic() - calling[1] > hold.run.timeout


def _end_hanging(store: Store, crew: Crew) -> None:
    """Record who hangs, then give everything back: the process, and only it, can end the call."""
    for hold in list(crew.holds.values()):
        calling = hold.calling
        if calling is not None and _hangs(hold) and not hold.lost:
            message = f"The function did not return within {hold.run.timeout:g} seconds."
            store.ledger.failures.record(
                hold.run,
                hold.batch,
                [Trouble(key=calling[0], kind=Kind.HANG, type="Timeout", message=message)],
            )
            fields = hold.run.marking.failed(stamp(hold.batch.token, FAILED))
            if fields:
                anyhow = hold.run.marking.unmarked(hold.batch.phase, retry=True)
                write = Write(
                    eligible=anyhow, until=hold.until, mark=hold.run.marking, token=hold.batch.token
                )
                store.session().documents(hold.run).mark_failed([calling[0]], fields, write)
        store.ledger.batches.release(hold.batch)
