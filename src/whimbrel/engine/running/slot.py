"""A slot of a worker process: hears of a batch, claims it when it is ready to start, works it off, settles it, and again."""

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
from whimbrel.engine.running.worker_state import WorkerState
from whimbrel.errors import LeaseLost, Refused, Systemic, Transient, WhimbrelError
from whimbrel.ports import Delivery, Documents, Feed, Session, Store

log = structlog.get_logger("whimbrel.worker")

REFUSING = 0.5  # seconds that a pointer is kept before it is given to somebody else
CONSUMERS_LOOK = 0.1  # seconds between two looks whether consumers were started again
ENDING = 0.05  # seconds between two looks whether statements have ended
FIRST_POLL = 0.02  # seconds; doubles while there is nothing to claim


def run_slot(
    store: Store, crew: WorkerState, feed: Feed, *, times: Times, step: Step, urgent: bool = False
) -> None:
    """One slot, until the process drains: nothing else ends it. Its session ends with it. `urgent`: only for runs of high priority."""
    with crew.slot(urgent=urgent):
        session = store.session()
        pause = FIRST_POLL
        while not crew.stopping.is_set():
            try:
                delivery = feed.next(times.idle_poll, urgent=urgent)
                if delivery is not None:
                    pause = _turn(store, crew, session, delivery, times=times, step=step, pause=pause)
            except BaseException:  # a slot that vanishes takes its share of the work with it, without a word
                log.exception("a slot met an error")
                crew.stopping.wait(min(1.0, times.idle_poll))


def _turn(
    store: Store,
    crew: WorkerState,
    session: Session,
    delivery: Delivery,
    *,
    times: Times,
    step: Step,
    pause: float,
) -> float:
    """Claim a batch and work it off: how long to wait before the next look, where there was none."""
    over = False
    try:
        lease = _claim(store, crew, session, delivery, times=times, pause=pause)
        if lease is None:
            over = True  # its delivery was answered
            pause = FIRST_POLL if crew.news.is_set() else min(pause * 2, times.idle_poll)
            crew.news.clear()
            return pause
        over = _held(store, crew, session, lease, times=times, step=step)
    except Transient as error:
        log.warning("the ledger does not answer", error=str(error))
        crew.stopping.wait(min(1.0, times.idle_poll))
    finally:
        if not over:
            delivery.again()
    if over:
        delivery.over()  # S9
        step("S9")
    return FIRST_POLL


def _claim(
    store: Store, crew: WorkerState, session: Session, delivery: Delivery, *, times: Times, pause: float
) -> Lease | None:
    """S3. Only one slot of a process looks for work at a time; it waits before it lets the next one look."""
    while crew.stopped and not crew.stopping.is_set():
        crew.stopping.wait(
            CONSUMERS_LOOK
        )  # the pointer is kept: the broker counts how often it is handed back
    with crew.idle:
        if crew.stopping.is_set():
            delivery.again()
            return None
        asked = clock()
        batch = _take(store, crew, session, delivery.token)
        if batch is None and delivery.token is None:
            crew.news.wait(pause * random.uniform(0.5, 1))  # noqa: S311  spreads polls, protects nothing
            return None
        if batch is not None:
            crew.taken.add(batch.owner)
    if batch is None:
        _turn_away(store, crew, delivery)
        return None
    try:
        run = store.ledger.runs.get(batch.run)
    except BaseException:  # its lease will end
        crew.taken.discard(batch.owner)
        raise
    if (
        run is None or run.status is not RunStatus.RUNNING
    ):  # it is given back below; do not claim the next at once
        crew.serving = tuple(each for each in crew.serving if each != batch.run)
    if run is None or batch.lease_until is None:  # somebody has emptied the ledger
        crew.taken.discard(batch.owner)
        delivery.over()
        return None
    return Lease(batch, run, batch.lease_until, asked, times.lease)


def _take(store: Store, crew: WorkerState, session: Session, token: str | None) -> Batch | None:
    """The batch of this token; without one, the first there is, those of urgent runs before others."""
    claim, aside = store.ledger.batches.claim, crew.faults.aside()
    if token in aside:
        return None
    for runs in [crew.urgent, crew.serving] if token is None else [crew.serving]:
        batch = claim(runs, worker=crew.name, lsid=session.lsid, token=token, aside=aside) if runs else None
        if batch is not None:
            return batch
    if token is None or token.partition(".")[0] in crew.serving:
        return None
    crew.refresh(store)  # the run may be so new that this process had not seen it
    if token.partition(".")[0] not in crew.serving:
        return None
    return claim(crew.serving, worker=crew.name, lsid=session.lsid, token=token)


def _turn_away(store: Store, crew: WorkerState, delivery: Delivery) -> None:
    """What becomes of a pointer to a batch that could not be claimed."""
    row = store.ledger.batches.get(delivery.token or "")
    if row is None:
        delivery.refuse("the ledger has no such batch")
        return
    run = store.ledger.runs.get(row.run)
    if row.status is not BatchStatus.QUEUED or run is None or run.status is not RunStatus.RUNNING:
        delivery.over()  # taken, done, or announced again when the run goes on (hole H28)
        return
    # This process's code is not the run's, or it has failed at the batch just now: slowly, for others must be faster.
    crew.stopping.wait(REFUSING)
    delivery.pass_on()


def _held(
    store: Store, crew: WorkerState, session: Session, lease: Lease, *, times: Times, step: Step
) -> bool:
    """Work off a batch that is held; whatever ends it, it is settled, released, or another's. False: released."""
    batch = lease.batch
    try:
        with crew.holding(lease):
            try:
                step("S3")
                _work_off(store, crew, session, lease, times=times, step=step)
            except LeaseLost:
                raise
            except BaseException:
                _release(store, session, lease)  # while its lease is renewed
                raise
        crew.finished(batch)
    except LeaseStopped:
        return False
    except LeaseLost as error:
        log.info("batch lost", batch=batch.token, reason=str(error))
    except Transient as error:
        log.warning("batch given back: MongoDB does not answer", batch=batch.token, reason=str(error))
        _wait_or_pause(store, crew, lease, error)
        return False
    except Systemic as error:
        log.error("run paused", run=batch.run, reason=str(error))  # noqa: TRY400  the reason is the whole story
        _pause(store, crew, batch, str(error))
    except Refused as error:  # the filter itself cannot be evaluated on some document
        _set_aside(store, crew, batch, str(error))
        return False
    except (
        BaseException
    ) as error:  # our own: the process's other batches, and the run's, do not suffer for it
        log.exception("batch broke", batch=batch.token)
        why = f"Whimbrel itself failed: {type_name(error)}: {exception_message(error, 500)}. The log says where."
        _set_aside(store, crew, batch, why)
        return False
    return True


def _work_off(
    store: Store, crew: WorkerState, session: Session, lease: Lease, *, times: Times, step: Step
) -> None:
    lease.stop = lease.run.status is not RunStatus.RUNNING  # it was paused or cancelled while we claimed
    job = kind_of(lease.run)
    definition, transform = job.code(lease, crew.migrations, crew.loop)
    transform = crew.checked(store, lease.run, transform)
    documents, pace = session.documents(lease.run), Pace(lease, OutcomeTally(), store.ledger, times)

    def act() -> None:
        job.execute(
            pace, documents, store.ledger, definition, transform,
            turn=crew.turn, experience=crew.experience, step=step,
        )  # fmt: skip

    pace.between_chunks()
    if lease.batch.solo:
        _alone(pace, crew, act)
    else:
        act()


def _set_aside(store: Store, crew: WorkerState, batch: Batch, why: str) -> None:
    """A batch that cannot be worked off waits, and is tried again, while the run has others; then a person must look."""
    log.error("batch given back", batch=batch.token, reason=why)
    tries = crew.faults.met(batch.token)
    try:
        faulty, open_states = crew.faults.of_run(batch.run), [BatchStatus.QUEUED, BatchStatus.RUNNING]
        open_ = store.ledger.batches.count(batch.run, open_states, most=faulty + 1)
    except WhimbrelError:
        return
    if tries < FAULTS or open_ > faulty:
        return
    _pause(
        store,
        crew,
        batch,
        f"{why} (Batch {batch.token}, {tries} times; nothing else of the run was left to do.)",
    )
    crew.faults.over(batch.token)


def _wait_or_pause(store: Store, crew: WorkerState, lease: Lease, error: Transient) -> None:
    """Not at once again; and not for ever, where the ledger answers and neither the batch nor the run goes further."""
    crew.stopping.wait(REFUSING)
    batch, known = lease.batch, lease.known
    try:
        run = store.ledger.runs.get(batch.run)
    except WhimbrelError:
        return
    reached = known.chunks, known.at, run and run.folded_through
    if why := crew.standstill.met(batch.token, error, reached):
        _pause(store, crew, batch, why)


def _pause(store: Store, crew: WorkerState, batch: Batch, why: str) -> None:
    try:
        control.pause(store.ledger, batch.run, who=crew.name, why=why)
    except WhimbrelError as error:
        log.warning("the run could not be paused", run=batch.run, reason=str(error))


def _alone(pace: Pace, crew: WorkerState, act: Callable[[], None]) -> None:
    """Wait until the process's other slots hold nothing; they claim nothing meanwhile."""
    if not crew.solo.acquire(blocking=False):
        raise LeaseStopped(pace.lease.batch.token)
    try:
        with crew.idle:
            while len(crew.taken) > 1:
                pace.between_chunks()
                time.sleep(0.01)
            act()
    finally:
        crew.solo.release()


def _release(store: Store, session: Session, lease: Lease) -> None:
    """Give the batch back, when nothing that was sent for it can change a document any more; else its lease must end first."""
    batch, documents = lease.batch, session.documents(lease.run)
    try:
        if not _quiet(documents, lease):
            log.warning("a statement goes on: its batch is not given back", batch=batch.token)
            return
        if _own(documents):
            store.ledger.batches.release(batch, progress=lease.known, untouched=lease.untouched)
        else:
            store.ledger.batches.release(batch)
    except WhimbrelError as error:
        log.warning(
            "a batch could not be given back; its lease will end", batch=batch.token, reason=str(error)
        )


def _own(documents: Documents) -> bool:
    """Whether the documents that were read are known to have been of the run's collection (hole H76)."""
    try:
        documents.check_identity()
    except WhimbrelError:
        return False
    return True


def _quiet(documents: Documents, lease: Lease) -> bool:
    """Wait until the statements that got no answer have ended. False where that is not known before the lease ends."""
    while True:
        lease.step()  # so that the lease is renewed meanwhile
        try:
            if documents.quiet():
                return True
        except Transient as error:
            log.info("asked again whether statements have ended", batch=lease.batch.token, reason=str(error))
        if lease.lost or lease.over:
            return False
        time.sleep(ENDING)
