"""A slot of a worker process: hears of a batch, claims it when it is ready to start, works it off, settles it, and again."""

import asyncio
import random
import threading
import time
from collections.abc import Mapping

import structlog

from whimbrel.domain.batches import Batch
from whimbrel.domain.migration import Migration
from whimbrel.domain.runs import RunAtWork
from whimbrel.domain.states import BatchStatus, RunStatus
from whimbrel.domain.times import Times
from whimbrel.engine import control
from whimbrel.engine.execute import execute
from whimbrel.engine.jobs import job_of
from whimbrel.engine.work import Hold, Step, Stopped, Work, clock
from whimbrel.errors import LeaseLost, Refused, Systemic, Transient, WhimbrelError
from whimbrel.ports import Delivery, Feed, Session, Store
from whimbrel.ports.ledger import CONSUMERS

log = structlog.get_logger("whimbrel.worker")

REFUSING = 0.5  # seconds that a pointer is kept before it is given to somebody else
STOPPED = 0.1  # seconds between two looks whether consumers were started again
FIRST_POLL = 0.02  # seconds; doubles while there is nothing to claim


class Crew:
    """What the slots of one process share: which runs they serve, what they hold, whether they shall stop."""

    def __init__(self, migrations: Mapping[str, Migration], name: str, only: str | None) -> None:
        self.migrations, self.name, self.only = migrations, name, only
        self.serving: tuple[str, ...] = ()
        self.urgent: tuple[str, ...] = ()  # of those, the runs whose priority is above 5
        self.stopped = False  # whether a person has stopped all consumers of the cluster
        self.news = threading.Event()  # a run or a phase has begun, or the process drains: look for work now
        self.turn = (
            threading.Lock()
        )  # one declarative statement at a time, while other slots claim and settle
        self.stopping = threading.Event()
        self.over = threading.Event()  # every slot has ended
        self.holds: dict[str, Hold] = {}
        self.taken: set[str] = set()  # tokens from their claim on, before they are held
        self.solo = threading.Lock()  # a batch that has killed processes runs alone in its own (hole H10)
        self.idle = threading.Lock()  # one slot looks for work, the others wait
        self.refused: dict[tuple[str, str], str] = {}  # run and pinned code: what is loaded here instead
        self.done = 0  # batches that were settled here
        self._counting = threading.Lock()
        self._phases: set[tuple[str, int]] = set()

    def drain(self) -> None:
        """Take no batch any more, and give those in hand back after their chunk."""
        self.stopping.set()
        self.news.set()

    def finished(self) -> None:
        with self._counting:
            self.done += 1

    def refresh(self, store: Store) -> None:
        """Which runs these workers may take batches of, and which of the batches in hand must stop."""
        running = [run for run in store.ledger.runs.at_work() if run.status is RunStatus.RUNNING]
        phases = {(run.id, run.leg) for run in running}
        if not phases <= self._phases:
            self.news.set()
        self._phases = phases
        self.stopped = store.ledger.leases.off(CONSUMERS)
        can = [run for run in running if self._can(run)]
        served = [] if self.stopped else can
        self.urgent = tuple(run.id for run in served if run.urgent)
        self.serving = tuple(run.id for run in served)
        alive = {run.id for run in running}
        self.refused = {key: here for key, here in list(self.refused.items()) if key[0] in alive}
        for hold in list(self.holds.values()):
            hold.stop = hold.run.id not in alive or self.stopping.is_set()

    def _can(self, run: RunAtWork) -> bool:
        if self.only not in (None, run.id):
            return False
        found = self.migrations.get(run.migration)
        if not run.has_user_code or (found is not None and found.definition.code_hash == run.code_hash):
            return True
        if (run.id, run.code_hash) not in self.refused:
            here = found.definition.code_hash if found else "not loaded here"
            self.refused[run.id, run.code_hash] = here
            log.warning(
                "batches of a run refused: its migration's code differs",
                run=run.id,
                migration=run.migration,
                pinned=run.code_hash,
                here=here,
            )
        return False


def work(store: Store, crew: Crew, feed: Feed, *, times: Times, step: Step, urgent: bool = False) -> None:
    """One slot, until the process drains. Its session ends with it. `urgent`: only for runs of high priority."""
    session = store.session()
    pause = FIRST_POLL
    with asyncio.Runner() as runner:
        while not crew.stopping.is_set():
            delivery = feed.next(times.idle_poll, urgent=urgent)
            if delivery is None:
                continue
            try:
                hold = _claim(store, crew, session, delivery, pause)
                if hold is None:
                    pause = FIRST_POLL if crew.news.is_set() else min(pause * 2, times.idle_poll)
                    crew.news.clear()
                    continue
                pause = FIRST_POLL
                step("S3")
                run = hold.run
                definition, call = job_of(run, crew.migrations)
                work_ = Work(
                    run=run, batch=hold.batch, definition=definition, call=call, documents=session.documents(run),
                    ledger=store.ledger, hold=hold, times=times, step=step, runner=runner, turn=crew.turn,
                )  # fmt: skip
            except WhimbrelError as error:  # a slot must outlive whatever the ledger says
                if isinstance(error, Transient):
                    log.warning("the ledger does not answer", error=str(error))
                else:
                    log.exception("a slot met an error")
                crew.stopping.wait(min(1.0, times.idle_poll))
                delivery.again()
                continue
            if _hold(work_, crew):
                delivery.over()  # S9
                step("S9")
            else:
                delivery.again()


def _claim(store: Store, crew: Crew, session: Session, delivery: Delivery, pause: float) -> Hold | None:
    """S3. Only one slot of a process looks for work at a time; it waits before it lets the next one look."""
    while crew.stopped and not crew.stopping.is_set():
        crew.stopping.wait(STOPPED)  # the pointer is kept: the broker counts how often it is handed back
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
            crew.taken.add(batch.token)
    if batch is None:
        _turn_away(store, crew, delivery)
        return None
    try:
        run = store.ledger.runs.get(batch.run)
    except WhimbrelError:  # its lease will end
        crew.taken.discard(batch.token)
        raise
    if (
        run is None or run.status is not RunStatus.RUNNING
    ):  # it is given back below; do not claim the next at once
        crew.serving = tuple(each for each in crew.serving if each != batch.run)
    if run is None or batch.lease_until is None:  # somebody has emptied the ledger
        crew.taken.discard(batch.token)
        delivery.over()
        return None
    return Hold(batch, run, batch.lease_until, asked)


def _take(store: Store, crew: Crew, session: Session, token: str | None) -> Batch | None:
    """The batch of this token; without one, the first there is, those of urgent runs before others."""
    claim = store.ledger.batches.claim
    for runs in [crew.urgent, crew.serving] if token is None else [crew.serving]:
        batch = claim(runs, worker=crew.name, lsid=session.lsid, token=token) if runs else None
        if batch is not None:
            return batch
    if token is None or token.partition(".")[0] in crew.serving:
        return None
    crew.refresh(store)  # the run may be so new that this process had not seen it
    if token.partition(".")[0] not in crew.serving:
        return None
    return claim(crew.serving, worker=crew.name, lsid=session.lsid, token=token)


def _turn_away(store: Store, crew: Crew, delivery: Delivery) -> None:
    """What becomes of a pointer to a batch that could not be claimed."""
    row = store.ledger.batches.get(delivery.token or "")
    if row is None:
        delivery.refuse("the ledger has no such batch")
        return
    run = store.ledger.runs.get(row.run)
    if row.status is not BatchStatus.QUEUED or run is None or run.status is not RunStatus.RUNNING:
        delivery.over()  # taken, done, or announced again when the run goes on (hole H28)
        return
    crew.stopping.wait(REFUSING)  # this process's code is not the run's: slowly, for others must be faster
    delivery.pass_on()


def _hold(work_: Work, crew: Crew) -> bool:
    """Work off a batch that is held; whatever ends it, it is settled, released, or another's. False: released."""
    batch = work_.batch
    crew.holds[batch.token] = work_.hold
    try:
        work_.hold.stop = (
            work_.run.status is not RunStatus.RUNNING
        )  # it was paused or cancelled while we claimed
        work_.between_chunks()
        if batch.solo:
            _alone(work_, crew)
        else:
            execute(work_)
        crew.finished()
    except Stopped:
        _release(work_)
        return False
    except LeaseLost as error:
        log.info("batch lost", batch=batch.token, reason=str(error))
    except Transient as error:
        log.warning("batch given back: MongoDB does not answer", batch=batch.token, reason=str(error))
        _release(work_)
        return False
    except (Systemic, Refused) as error:  # Refused: the filter itself cannot be evaluated on some document
        log.error("run paused", run=batch.run, reason=str(error))  # noqa: TRY400  the reason is the whole story
        _release(work_)
        _pause(work_, crew, str(error))
    except Exception as error:
        # The one broad except of a worker: an error of Whimbrel's own must not take the process's other batches with it.
        log.exception("batch broke", batch=batch.token)
        _release(work_)
        _pause(work_, crew, f"Whimbrel itself failed: {type(error).__name__}: {error}")
    finally:
        del crew.holds[batch.token]
        crew.taken.discard(batch.token)
    return True


def _pause(work_: Work, crew: Crew, why: str) -> None:
    try:
        control.pause(work_.ledger, work_.batch.run, who=crew.name, why=why)
    except WhimbrelError as error:
        log.warning("the run could not be paused", run=work_.batch.run, reason=str(error))


def _alone(work_: Work, crew: Crew) -> None:
    """Wait until the process's other slots hold nothing; they claim nothing meanwhile."""
    if not crew.solo.acquire(blocking=False):
        raise Stopped(work_.batch.token)
    try:
        with crew.idle:
            while len(crew.taken) > 1:
                work_.between_chunks()
                time.sleep(0.01)
            execute(work_)
    finally:
        crew.solo.release()


def _release(work_: Work) -> None:
    try:
        work_.ledger.batches.release(work_.batch)
    except WhimbrelError as error:
        log.warning(
            "a batch could not be given back; its lease will end", batch=work_.batch.token, reason=str(error)
        )
