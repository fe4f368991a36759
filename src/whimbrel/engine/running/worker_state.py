"""What the slots of one worker process share."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar

import structlog

from whimbrel.domain.migrations.catalog import Catalog
from whimbrel.domain.migrations.migration import Definition, Migration
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run, RunAtWork
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.executing.chunk_costs import ChunkCosts
from whimbrel.engine.executing.event_loop import process_loop
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.operating.code_differences import differing_code, differing_versions
from whimbrel.engine.repeated_errors import RepeatedErrors
from whimbrel.engine.running.faulty_batches import FaultyBatches
from whimbrel.engine.running.same_code import SameCode, compare
from whimbrel.ports import Store
from whimbrel.ports.ledger import CONSUMERS
from whimbrel.ports.loaded import Loaded, NothingLoaded

log = structlog.get_logger("whimbrel.worker")

FAULT = 500  # characters that the registry keeps of why a migration is broken

BATCH: ContextVar[str] = ContextVar("whimbrel_batch", default="")
"""The token of the batch that this thread, or the task of an awaited call, works on."""


class WorkerState:
    """What the slots of one process share: which runs they serve, what they hold, whether they shall stop."""

    def __init__(self, migrations: Mapping[str, Migration], name: str, only: str | None = None) -> None:
        self.migrations, self.name, self.only = (
            migrations,
            name,
            only,
        )  # the one run that is served, if not all are
        self.serving: tuple[str, ...] = ()
        self.urgent: tuple[str, ...] = ()  # of those, the runs whose priority is above 5
        self.stopped = False  # whether a person has stopped all consumers of the cluster
        self.news = threading.Event()  # a run or a phase has begun, or the process drains: look for work now
        self.look = threading.Event()  # the parent knows of news: do not wait for the next look
        self.turn = (
            threading.Lock()
        )  # one declarative statement at a time, while other slots claim and settle
        self.stopping = threading.Event()
        self.over = threading.Event()  # every slot has ended
        # By the owner of the claim: a batch that was lost may come to another slot of this process before the first has noticed.
        self.holds: dict[str | None, Lease] = {}
        self.taken: set[str | None] = set()  # from the claim on, before they are held
        self.faults, self.repeated_errors = FaultyBatches(), RepeatedErrors()
        self.chunk_costs = ChunkCosts()
        self.loop = process_loop()
        self.loaded: Loaded = NothingLoaded()
        self.on_hand: Callable[[str, bool], object] = lambda _token, _begins: (
            None
        )  # a slot begins with a batch, or ends
        self.solo = threading.Lock()  # a batch that has killed processes runs alone in its own (hole H10)
        self.idle = threading.Lock()  # one slot looks for work, the others wait
        self.refused: dict[tuple[str, str], str] = {}  # run and pinned code: what is loaded here instead
        # Of those, the ones refused for what calls have loaded: the run whose files count.
        self._late: dict[tuple[str, str], str] = {}
        self.done = 0  # batches that were settled here
        self.slots = 0  # that live, without those that are kept free for urgent runs
        self._counting = threading.Lock()
        self._phases: set[tuple[str, int]] = set()
        self._versions_said: set[str] = set()

    def end(self) -> None:
        """Every slot has ended."""
        self.over.set()
        self.look.set()

    def drain(self) -> None:
        """Take no batch any more, and give those in hand back after their chunk."""
        self.stopping.set()
        self.news.set()

    def finished(self, batch: Batch) -> None:
        self.faults.over(batch.token)
        self.repeated_errors.forget(batch.token)
        with self._counting:
            self.done += 1

    @contextlib.contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        """While a slot has a batch in hand."""
        batch = lease.batch
        self.holds[batch.owner] = lease
        named = BATCH.set(batch.token)
        self.on_hand(batch.token, True)
        try:
            yield
        finally:
            self.holds.pop(batch.owner, None)
            self.taken.discard(batch.owner)
            BATCH.reset(named)
            self.on_hand(batch.token, False)

    @contextlib.contextmanager
    def slot(self, *, urgent: bool) -> Iterator[None]:
        """While a slot lives."""
        with self._counting:
            self.slots += not urgent
        try:
            yield
        finally:
            with self._counting:
                self.slots -= not urgent

    def refresh(self, store: Store) -> None:
        """Which runs these workers may take batches of, and which of the batches in hand must stop."""
        running = [run for run in store.ledger.runs.at_work() if run.status is RunStatus.RUNNING]
        phases = {(run.id, run.leg) for run in running}
        if not phases <= self._phases:
            self.news.set()
        self._phases = phases
        self.stopped = store.ledger.leases.off(CONSUMERS)
        can = [run for run in running if self._can(store, run)]
        served = [] if self.stopped else can
        self.urgent = tuple(run.id for run in served if run.urgent)
        self.serving = tuple(run.id for run in served)
        alive = {run.id for run in running}
        self.faults.keep(alive)
        self._versions_said &= alive
        self.refused = {key: here for key, here in list(self.refused.items()) if key[0] in alive}
        self._late = {key: whose for key, whose in list(self._late.items()) if key[0] in alive}
        for lease in list(self.holds.values()):
            lease.stop = lease.run.id not in alive or self.stopping.is_set()

    def _can(self, store: Store, run: RunAtWork) -> bool:
        if self.only not in (None, run.id):
            return False
        found = self.migrations.get(run.migration)
        if not run.has_user_code:
            return True
        if found is not None and found.definition.code_hash == run.code_hash:
            self._say_versions(store, run, found.definition)
            return self._loaded_the_same(store, run, found.definition)
        if (run.id, run.code_hash) not in self.refused:
            fault = self.migrations.fault(run.migration) if isinstance(self.migrations, Catalog) else ""
            here = fault[:FAULT] or differing_code(
                store.ledger, run.code_hash, found.definition if found else None
            )
            self._refuse(run, here)
        return False

    def _refuse(self, run: Run | RunAtWork, here: str) -> None:
        self.refused[run.id, run.code_hash] = here
        log.warning(
            "batches of a run refused: its migration's code differs",
            run=run.id,
            migration=run.migration,
            pinned=run.code_hash,
            here=here,
            host=socket.gethostname(),
        )

    def checked(self, store: Store, run: Run, transform: Transform) -> Transform:
        """What is asked for the documents of a run's batch, so that nothing comes of other files than the run's."""
        if not run.has_user_code:
            return transform
        whose = run.of or run.id

        def refuse(here: str) -> None:
            self._late[run.id, run.code_hash] = whose
            if self.refused.get((run.id, run.code_hash)) != here:  # another slot may have met it too
                self._refuse(run, here)
            self.serving = tuple(each for each in self.serving if each != run.id)
            self.urgent = tuple(each for each in self.urgent if each != run.id)

        def replace(files: Sequence[str]) -> None:
            named = ", ".join(files)
            log.warning(
                "files have changed since calls loaded them: this process ends, and another goes on",
                files=named,
            )
            self.drain()

        return SameCode(transform, store.ledger, self.loaded, whose, refuse, replace, fresh=self.done == 0)

    def _loaded_the_same(self, store: Store, run: RunAtWork, definition: Definition) -> bool:
        """Whether a run that was refused for what calls have loaded is refused still: who resumes it may have taken the new code."""
        key = run.id, run.code_hash
        whose = self._late.get(key)
        if whose is None:
            return True
        found = compare(store.ledger, self.loaded, whose, definition.code, tell="nothing")
        if found.differing:
            self.refused[key] = found.said
            return False
        self.refused.pop(key, None)
        self._late.pop(key, None)
        return True

    def _say_versions(self, store: Store, run: RunAtWork, definition: Definition) -> None:
        """Once for each run: what it stands on here in other versions than where it was started."""
        if run.id in self._versions_said:
            return
        self._versions_said.add(run.id)
        pinned = store.ledger.codes.get(run.code_hash)
        for name, then, now in differing_versions(pinned, definition.code) if pinned else ():
            log.warning(
                "another version than where the run was started", run=run.id, of=name, then=then, now=now
            )
