"""The state that the slots of one worker process share."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar

import structlog

from whimbrel.domain.migrations.catalog import Catalog
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Run, RunAtWork
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.executing.chunk_costs import ChunkCosts
from whimbrel.engine.executing.event_loop import process_loop
from whimbrel.engine.executing.gate import Gate
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.operating.code_differences import differing_code, differing_versions
from whimbrel.engine.repeated_errors import RepeatedErrors
from whimbrel.engine.running.faulty_batches import FaultyBatches
from whimbrel.engine.running.same_code import SameCode, compare
from whimbrel.ports import Store
from whimbrel.ports.ledger import CONSUMERS
from whimbrel.ports.loaded import Loaded, NothingLoaded
from whimbrel.ports.tracing import Tracing

log = structlog.get_logger("whimbrel.worker")

FAULT = 500  # characters that the registry keeps of the reason why a migration is broken

BATCH: ContextVar[str] = ContextVar("whimbrel_batch", default="")
"""The token of the batch that this thread, or the task of an awaited call, works on."""


class WorkerState:
    """What the slots of one process share: which runs they serve, what they hold, whether they must stop."""

    def __init__(self, migrations: Mapping[str, Migration], name: str, only: str | None = None) -> None:
        self.migrations, self.name = migrations, name
        self.only = only  # the one run that is served, if not all are
        self.serving: tuple[str, ...] = ()
        self.urgent: tuple[str, ...] = ()  # of those, the runs whose priority is above 5
        self.stopped = False  # whether a person has stopped all consumers of the cluster
        # A run or a phase has begun, or the process drains: slots look for work now.
        self.news = threading.Event()
        self.wake_up = threading.Event()  # the parent has news: do not wait for the next heartbeat
        # One declarative statement at a time, while other slots claim and settle.
        self.turn = threading.Lock()
        self.stopping = threading.Event()
        self.ended = threading.Event()  # every slot has ended
        # By the owner of the claim: a batch that was lost may come to another slot of this process before the first has noticed.
        self.holds: dict[str | None, Lease] = {}
        self.taken: set[str | None] = set()  # owners from the claim on, before their batches are held
        self.faults, self.repeated_errors = FaultyBatches(), RepeatedErrors()
        self.chunk_costs = ChunkCosts()
        self.loop = process_loop()
        self.loaded: Loaded = NothingLoaded()
        # A slot begins a batch, or ends it.
        self.on_batch: Callable[[str, bool], object] = lambda _token, _begins: None
        self.gate = Gate()  # the share of its speed that each run may have now
        self.admitted: dict[
            str, int
        ] = {}  # running runs -> how often their settings were changed, as is known here
        # Runs that wait for so long that nothing of them is kept in hand.
        self.asleep: frozenset[str] = frozenset()
        self.tracing: Tracing | None = None  # who makes spans of batches
        self.solo = threading.Lock()  # a batch that has killed processes runs alone in its own (hole H10)
        self.idle = threading.Lock()  # one slot looks for work, the others wait
        self.refused: dict[tuple[str, str], str] = {}  # run and pinned code -> what is loaded here instead
        # Those of them that were refused for what calls have loaded -> the run whose files count.
        self._late: dict[tuple[str, str], str] = {}
        self.done = 0  # batches settled here
        self.slots = 0  # living slots, without those that are kept free for urgent runs
        self._counting = threading.Lock()
        self._phases: set[tuple[str, int]] = set()
        self._versions_logged: set[str] = set()

    def end(self) -> None:
        """Tells that every slot has ended."""
        self.ended.set()
        self.wake_up.set()

    def drain(self) -> None:
        """Takes no batch any more, and gives current ones back after their chunk.

        They are told at once: the heartbeat tells them only while the ledger answers, and one that waits for its share would wait for ever.
        """
        self.stopping.set()
        for lease in list(self.holds.values()):
            lease.stop = True
        self.news.set()

    def finished(self, batch: Batch) -> None:
        self.faults.forget(batch.token)
        self.repeated_errors.forget(batch.token)
        with self._counting:
            self.done += 1

    @contextlib.contextmanager
    def holding(self, lease: Lease) -> Iterator[None]:
        """Registers a batch while a slot works on it."""
        batch = lease.batch
        self.holds[batch.owner] = lease
        lease.stop = lease.stop or self.stopping.is_set()
        reset_token = BATCH.set(batch.token)
        self.on_batch(batch.token, True)
        try:
            yield
        finally:
            self.holds.pop(batch.owner, None)
            self.taken.discard(batch.owner)
            BATCH.reset(reset_token)
            self.on_batch(batch.token, False)

    @contextlib.contextmanager
    def slot(self, *, urgent: bool) -> Iterator[None]:
        """Counts a slot while it lives."""
        with self._counting:
            self.slots += not urgent
        try:
            yield
        finally:
            with self._counting:
                self.slots -= not urgent

    def refresh(self, store: Store) -> None:
        """Finds out which runs these slots may take batches of, and which of the current batches must stop."""
        running = [run for run in store.ledger.runs.at_work() if run.status is RunStatus.RUNNING]
        self.gate.admit(running)
        self.admitted = {run.id: run.changes for run in running}
        self.asleep = frozenset(run.id for run in running if self.gate.allowance_of(run).gives_back)
        phases = {(run.id, run.leg) for run in running if run.id not in self.asleep}
        if not phases <= self._phases:
            self.news.set()
        self._phases = phases
        self.stopped = store.ledger.leases.is_off(CONSUMERS)
        servable = [run for run in running if run.id not in self.asleep and self._can_serve(store, run)]
        served = [] if self.stopped else servable
        self.urgent = tuple(run.id for run in served if run.urgent)
        self.serving = tuple(run.id for run in served)
        alive = {run.id for run in running}
        self.faults.keep(alive)
        self._versions_logged &= alive
        self.refused = {key: loaded for key, loaded in list(self.refused.items()) if key[0] in alive}
        self._late = {key: code_run for key, code_run in list(self._late.items()) if key[0] in alive}
        for lease in list(self.holds.values()):
            lease.stop = lease.run.id not in alive - self.asleep or self.stopping.is_set()

    def _can_serve(self, store: Store, run: RunAtWork) -> bool:
        if self.only not in (None, run.id):
            return False
        migration = self.migrations.get(run.migration)
        if not run.has_user_code:
            return True
        if migration is not None and migration.definition.code_hash == run.code_hash:
            self._log_versions(store, run, migration.definition)
            return self._loads_same_files(store, run, migration.definition)
        if (run.id, run.code_hash) not in self.refused:
            fault = self.migrations.fault(run.migration) if isinstance(self.migrations, Catalog) else ""
            loaded = fault[:FAULT] or differing_code(
                store.ledger, run.code_hash, migration.definition if migration else None
            )
            self._refuse(run, loaded)
        return False

    def _refuse(self, run: Run | RunAtWork, loaded: str) -> None:
        self.refused[run.id, run.code_hash] = loaded
        log.warning(
            "batches of a run refused: its migration's code differs",
            run=run.id,
            migration=run.migration,
            pinned=run.code_hash,
            here=loaded,
            host=socket.gethostname(),
        )

    def checked(self, store: Store, run: Run, transform: Transform) -> Transform:
        """Wraps the transform of a run's batch, so that files other than the run's change nothing."""
        if not run.has_user_code:
            return transform
        code_run = run.of or run.id

        def refuse(difference: str) -> None:
            self._late[run.id, run.code_hash] = code_run
            if self.refused.get((run.id, run.code_hash)) != difference:  # another slot may have found it too
                self._refuse(run, difference)
            self.serving = tuple(served for served in self.serving if served != run.id)
            self.urgent = tuple(served for served in self.urgent if served != run.id)

        def replace(files: Sequence[str]) -> None:
            named = ", ".join(files)
            log.warning(
                "files have changed since calls loaded them: this process ends, and another goes on",
                files=named,
            )
            self.drain()

        return SameCode(transform, store.ledger, self.loaded, code_run, refuse, replace, fresh=self.done == 0)

    def _loads_same_files(self, store: Store, run: RunAtWork, definition: Definition) -> bool:
        """Checks whether a run that was refused for what calls have loaded still is refused: it may have been resumed with the new code."""
        key = run.id, run.code_hash
        code_run = self._late.get(key)
        if code_run is None:
            return True
        compared = compare(store.ledger, self.loaded, code_run, definition.code, tell="nothing")
        if compared.differing:
            self.refused[key] = compared.description
            return False
        self.refused.pop(key, None)
        self._late.pop(key, None)
        return True

    def _log_versions(self, store: Store, run: RunAtWork, definition: Definition) -> None:
        """Logs once for each run which versions differ from those where it was started."""
        if run.id in self._versions_logged:
            return
        self._versions_logged.add(run.id)
        pinned = store.ledger.codes.get(run.code_hash)
        for name, pinned_version, version in differing_versions(pinned, definition.code) if pinned else ():
            log.warning(
                "another version than where the run was started",
                run=run.id,
                of=name,
                then=pinned_version,
                now=version,
            )
