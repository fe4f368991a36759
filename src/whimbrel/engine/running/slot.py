"""A slot of a worker process: gets word of a batch, claims it when it can start, executes it, settles it, and again."""

import random
import time
from collections.abc import Callable

import structlog

from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.states import BatchStatus, RunStatus
from whimbrel.domain.text.safe_text import exception_message, type_name
from whimbrel.engine.executing.lease import Lease, LeaseStopped, clock
from whimbrel.engine.executing.outcome_tally import OutcomeTally
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.kinds.all_kinds import kind_of
from whimbrel.engine.operating import control
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.repeated_errors import FAULTS
from whimbrel.engine.running.batch_spans import traced
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.errors import LeaseLost, Refused, Systemic, Transient, WhimbrelError
from whimbrel.ports import Delivery, Documents, Feed, Session, Store

log = structlog.get_logger("whimbrel.worker")

REFUSING = 0.5  # seconds that a pointer is kept before it is passed to another process
CONSUMERS_SECONDS = 0.1  # between two checks whether consumers were started again
STATEMENT_SECONDS = 0.05  # between two checks whether statements have ended
FIRST_POLL = 0.02  # seconds; doubles while there is nothing to claim


def run_slot(
    store: Store, worker_state: WorkerState, feed: Feed, *, times: Times, step: Step, urgent: bool = False
) -> None:
    """Runs one slot until the process drains: nothing else ends it. Its session ends with it. `urgent`: only for runs of high priority."""
    with worker_state.slot(urgent=urgent):
        session = store.session()
        pause = FIRST_POLL
        while not worker_state.stopping.is_set():
            try:
                delivery = feed.next(times.idle_poll, urgent=urgent)
                if delivery is not None:
                    pause = _take_batch(
                        store, worker_state, session, delivery, times=times, step=step, pause=pause
                    )
            except BaseException:  # a slot that ended would silently take its share of the work with it
                log.exception("a slot met an error")
                worker_state.stopping.wait(min(1.0, times.idle_poll))


def _take_batch(
    store: Store,
    worker_state: WorkerState,
    session: Session,
    delivery: Delivery,
    *,
    times: Times,
    step: Step,
    pause: float,
) -> float:
    """Claims a batch and executes it. Returns how long to wait before the next look, where there was none."""
    done = False
    try:
        lease = _claim(store, worker_state, session, delivery, times=times, pause=pause)
        if lease is None:
            done = True  # the delivery was answered
            pause = FIRST_POLL if worker_state.news.is_set() else min(pause * 2, times.idle_poll)
            worker_state.news.clear()
            return pause
        done = _execute_held(store, worker_state, session, lease, times=times, step=step)
    except Transient as error:
        log.warning("the ledger does not answer", error=str(error))
        worker_state.stopping.wait(min(1.0, times.idle_poll))
    finally:
        if not done:
            delivery.give_back()
    if done:
        delivery.acknowledge()  # S9
        step("S9")
    return FIRST_POLL


def _claim(
    store: Store,
    worker_state: WorkerState,
    session: Session,
    delivery: Delivery,
    *,
    times: Times,
    pause: float,
) -> Lease | None:
    """S3. Only one slot of a process looks for work at a time; it waits before it lets the next one look."""
    while worker_state.stopped and not worker_state.stopping.is_set():
        # The pointer is kept: the broker counts how often it is handed back.
        worker_state.stopping.wait(CONSUMERS_SECONDS)
    with worker_state.idle:
        if worker_state.stopping.is_set():
            delivery.give_back()
            return None
        requested = clock()
        batch = _claim_batch(store, worker_state, session, delivery.token)
        if batch is None and delivery.token is None:
            worker_state.news.wait(pause * random.uniform(0.5, 1))  # noqa: S311  spreads polls, protects nothing
            return None
        if batch is not None:
            worker_state.taken.add(batch.owner)
    if batch is None:
        _return_pointer(store, worker_state, delivery)
        return None
    try:
        run = store.ledger.runs.get(batch.run)
    except BaseException:  # its lease will end
        worker_state.taken.discard(batch.owner)
        raise
    # The batch is given back below: do not claim the next of this run at once.
    if run is None or run.status is not RunStatus.RUNNING:
        worker_state.serving = tuple(served for served in worker_state.serving if served != batch.run)
    if run is None or batch.lease_until is None:  # somebody has emptied the ledger
        worker_state.taken.discard(batch.owner)
        delivery.acknowledge()
        return None
    return Lease(batch, run, batch.lease_until, requested, times.lease)


def _claim_batch(
    store: Store, worker_state: WorkerState, session: Session, token: str | None
) -> Batch | None:
    """Claims the batch of this token; without a token, the first queued batch, those of urgent runs before others."""
    claim, waiting = store.ledger.batches.claim, worker_state.faults.waiting()
    if token in waiting:
        return None
    for runs in [worker_state.urgent, worker_state.serving] if token is None else [worker_state.serving]:
        batch = (
            claim(runs, worker=worker_state.name, lsid=session.lsid, token=token, excluding=waiting)
            if runs
            else None
        )
        if batch is not None:
            return batch
    if token is None or token.partition(".")[0] in worker_state.serving:
        return None
    worker_state.refresh(store)  # the run may be so new that this process has not seen it
    if token.partition(".")[0] not in worker_state.serving:
        return None
    return claim(worker_state.serving, worker=worker_state.name, lsid=session.lsid, token=token)


def _return_pointer(store: Store, worker_state: WorkerState, delivery: Delivery) -> None:
    """Answers a pointer to a batch that could not be claimed."""
    row = store.ledger.batches.get(delivery.token or "")
    if row is None and store.ledger.proofs.merged([delivery.token or ""]):
        delivery.acknowledge()  # settled long ago, and merged with others
        return
    if row is None:
        delivery.refuse("the ledger has no such batch")
        return
    run = store.ledger.runs.get(row.run)
    waits = row.run in worker_state.asleep
    if row.status is not BatchStatus.QUEUED or run is None or run.status is not RunStatus.RUNNING or waits:
        delivery.acknowledge()  # taken, done, or announced again when the run continues (hole H28)
        return
    # This process's code is not the run's, or it has just failed at the batch: wait, so that others are faster.
    worker_state.stopping.wait(REFUSING)
    delivery.pass_on()


def _execute_held(
    store: Store, worker_state: WorkerState, session: Session, lease: Lease, *, times: Times, step: Step
) -> bool:
    """Executes a held batch; however that ends, the batch is settled, released, or another's. Returns False where it was released."""
    batch = lease.batch
    try:
        with worker_state.holding(lease):
            try:
                step("S3")
                with traced(worker_state.tracing, lease):
                    _execute(store, worker_state, session, lease, times=times, step=step)
            except LeaseLost:
                raise
            except BaseException:
                _release(store, session, lease)  # while its lease is renewed
                raise
        worker_state.finished(batch)
    except LeaseStopped:
        return False
    except LeaseLost as error:
        log.info("batch lost", batch=batch.token, reason=str(error))
    except Transient as error:
        log.warning("batch given back: MongoDB does not answer", batch=batch.token, reason=str(error))
        _wait_or_pause(store, worker_state, lease, error)
        return False
    except Systemic as error:
        log.error("run paused", run=batch.run, reason=str(error))  # noqa: TRY400  the reason tells everything
        _pause(store, worker_state, batch, str(error))
    except Refused as error:  # the filter itself cannot be evaluated on some document
        _set_aside(store, worker_state, batch, str(error))
        return False
    except (
        BaseException
    ) as error:  # an error of our own must not affect the process's, or the run's, other batches
        log.exception("batch broke", batch=batch.token)
        why = f"Whimbrel itself failed: {type_name(error)}: {exception_message(error, 500)}. The log says where."
        _set_aside(store, worker_state, batch, why)
        return False
    return True


def _execute(
    store: Store, worker_state: WorkerState, session: Session, lease: Lease, *, times: Times, step: Step
) -> None:
    if lease.run.status is not RunStatus.RUNNING:  # it was paused or cancelled while we claimed
        lease.stop = True
    kind = kind_of(lease.run)
    definition, transform = kind.definition_and_transform(lease, worker_state.migrations, worker_state.loop)
    transform = worker_state.checked(store, lease.run, transform)
    documents, pace = (
        session.documents(lease.run),
        Pace(
            lease,
            OutcomeTally(),
            store.ledger,
            times,
            worker_state.gate,
            worker_state.chunk_costs.size(lease.run),
            caution=worker_state.chunk_costs.caution(lease.run.id),
        ),
    )

    def act() -> None:
        kind.execute(
            pace, documents, store.ledger, definition, transform,
            turn=worker_state.turn, chunk_costs=worker_state.chunk_costs, step=step,
        )  # fmt: skip

    pace.between_chunks()
    if lease.batch.solo:
        _execute_alone(pace, worker_state, act)
    else:
        act()


def _set_aside(store: Store, worker_state: WorkerState, batch: Batch, why: str) -> None:
    """Lets a batch that cannot be executed wait, and tries it again, while the run has others; then a person must look."""
    log.error("batch given back", batch=batch.token, reason=why)
    tries = worker_state.faults.record(batch.token)
    try:
        faulty, open_states = worker_state.faults.of_run(batch.run), [BatchStatus.QUEUED, BatchStatus.RUNNING]
        last = store.ledger.batches.last(batch.run)
        planned = last is None or last.last or last.retry
        open_ = store.ledger.batches.count(batch.run, open_states, most=faulty + 1)
    except WhimbrelError:
        return
    if tries < FAULTS or open_ > faulty or not planned:
        return
    _pause(
        store,
        worker_state,
        batch,
        f"{why} (Batch {batch.token}, {tries} times; nothing else of the run was left to do.)",
    )
    worker_state.faults.forget(batch.token)


def _wait_or_pause(store: Store, worker_state: WorkerState, lease: Lease, error: Transient) -> None:
    """Waits a little; pauses the run where the ledger answers, but neither the batch nor the run makes progress."""
    worker_state.stopping.wait(REFUSING)
    batch, known = lease.batch, lease.known
    try:
        run = store.ledger.runs.get(batch.run)
    except WhimbrelError:
        return
    reached = known.chunks, known.last_key, run and run.folded_through
    if why := worker_state.repeated_errors.record(batch.token, error, reached):
        _pause(store, worker_state, batch, why)


def _pause(store: Store, worker_state: WorkerState, batch: Batch, why: str) -> None:
    try:
        control.pause(store.ledger, batch.run, who=worker_state.name, why=why)
    except WhimbrelError as error:
        log.warning("the run could not be paused", run=batch.run, reason=str(error))


def _execute_alone(pace: Pace, worker_state: WorkerState, act: Callable[[], None]) -> None:
    """Executes a batch once the process's other slots hold nothing; they claim nothing meanwhile."""
    if not worker_state.solo.acquire(blocking=False):
        raise LeaseStopped(pace.lease.batch.token)
    try:
        with worker_state.idle:
            while len(worker_state.taken) > 1:
                pace.between_chunks()
                time.sleep(0.01)
            act()
    finally:
        worker_state.solo.release()


def _release(store: Store, session: Session, lease: Lease) -> None:
    """Gives the batch back, when nothing that was sent for it can change a document any more; otherwise its lease must end first."""
    batch, documents = lease.batch, session.documents(lease.run)
    try:
        if not _statements_ended(documents, lease):
            log.warning("a statement goes on: its batch is not given back", batch=batch.token)
            return
        if _read_own_collection(documents):
            store.ledger.batches.release(batch, progress=lease.known, untouched=lease.untouched)
        else:
            store.ledger.batches.release(batch)
    except WhimbrelError as error:
        log.warning(
            "a batch could not be given back; its lease will end", batch=batch.token, reason=str(error)
        )


def _read_own_collection(documents: Documents) -> bool:
    """Whether the documents that were read are known to have been of the run's collection (hole H76)."""
    try:
        documents.check_identity()
    except WhimbrelError:
        return False
    return True


def _statements_ended(documents: Documents, lease: Lease) -> bool:
    """Waits until the statements without an answer have ended. Returns False where that is not known before the lease ends."""
    while True:
        lease.step()  # so that the lease is renewed meanwhile
        try:
            if documents.quiet():
                return True
        except Transient as error:
            log.info("asked again whether statements have ended", batch=lease.batch.token, reason=str(error))
        if lease.lost or lease.over:
            return False
        time.sleep(STATEMENT_SECONDS)
