"""What the routes work with, built in the background: the port answers at once, and says what it still waits for."""

import contextlib
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, TypeVar

import structlog
from fastapi import Depends, Request

from whimbrel.api.http_errors import ApiError
from whimbrel.api.outage_messages import OutageMessages
from whimbrel.bootstrap import Opened, opened
from whimbrel.domain.migrations.catalog import Catalog, choose
from whimbrel.domain.migrations.migration import Definition
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.errors import DatabaseRefused, DatabaseUnreachable, Systemic, Transient, WhimbrelError
from whimbrel.settings import Settings
from whimbrel.workers import definition_catalog
from whimbrel.workers.parent_process import ParentProcess
from whimbrel.workers.supervisor import Supervisor
from whimbrel.workers.worker_pool import WorkerPool

log = structlog.get_logger("whimbrel.api")
T = TypeVar("T")

FIRST_PAUSE = 0.5  # seconds between the first two attempts to reach a dependency; doubled with each
LONGEST_PAUSE = 10.0  # seconds
DRAINING = 30.0  # seconds that workers have to finish their chunks
ASKING = 1.0  # seconds that an attempt to reach a dependency is waited for at the end: it holds nothing
WAITED_FOR = (DatabaseUnreachable, DatabaseRefused, Transient)


class System:
    """One process's connections, coordinator and workers."""

    def __init__(self, settings: Settings, pool: WorkerPool, *, workers: bool) -> None:
        self.settings, self.pool, self._with_workers = settings, pool, workers
        self.reason = "It starts: MongoDB has not been asked yet."
        self.broken: WhimbrelError | None = None  # what no waiting mends
        self.on_broken: Callable[[], None] = lambda: None
        self.on_reached: Callable[[Opened], None] = lambda _: None  # MongoDB, for the first time
        self.started = time.time()
        self.version = version("whimbrel")
        self.definitions: Catalog[Definition] = Catalog()
        self.parent: ParentProcess | None = None
        self.supervisor: Supervisor | None = None
        self._opened: Opened | None = None
        self._outages = OutageMessages(embedded=not settings.mongodb_uri)
        self._over = threading.Event()
        self._leaving = threading.Event()
        self._hurried = threading.Event()
        self._thread = threading.Thread(target=self._live, name="system", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """Soon it will be stopped: answers that go on for ever end now."""
        self._leaving.set()

    def hurry(self) -> None:
        """Do not let the workers finish their chunks. They are killed, and what they held is given back."""
        self._hurried.set()

    def stop(self) -> None:
        """Drain the workers, and close everything. Returns when it is done, or its time is over."""
        self._over.set()
        nothing_begun = self._opened is None and bool(self.settings.mongodb_uri)
        self._thread.join(ASKING if nothing_begun else DRAINING + 10)

    @property
    def leaving(self) -> bool:
        """Whether this process has been told to end."""
        return self._leaving.is_set() or self._over.is_set()

    @property
    def ready(self) -> bool:
        return self._opened is not None and not self._over.is_set()

    @property
    def at(self) -> Opened:
        """The deployment. Raises ApiError (503) while it is not reached."""
        found = self._opened
        if found is None:
            raise ApiError(503, "not_ready", self.reason)
        return found

    @property
    def announcer(self) -> Announcer:
        """What this process announces batches through. Raises ApiError (503) while the deployment is not reached."""
        if not self.ready or self.parent is None:
            raise ApiError(503, "not_ready", self.reason)
        return self.parent.announcer

    @property
    def loaded(self) -> Catalog[Definition]:
        """The migrations by name. Raises ApiError (503) before they are loaded."""
        if not self.definitions:
            raise ApiError(503, "not_ready", self.reason)
        return self.definitions

    def evaluated(self, name: str) -> Definition:
        """A migration as its code evaluates it now. Raises MigrationUnknown, DefinitionInvalid; Declined (503) before migrations are loaded."""
        choose(self.loaded, name)
        return self._evaluated(name)

    def why(self, error: WhimbrelError) -> str:
        """What is said of a dependency that is down, in one sentence; the log has the whole."""
        return self._outages.told(error, "" if self.parent is None else self.parent.lost)

    @property
    def uptime(self) -> float:
        return time.time() - self.started

    def _live(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                self._serve(stack)
        except WhimbrelError as error:
            self._break(error)
        except Exception as error:
            # The last resort of the thread: without it the port would answer 503 for ever, and nobody know why.
            log.exception("the system broke")
            self._break(Systemic(f"Whimbrel itself failed: {type(error).__name__}: {error}"))

    def _break(self, error: WhimbrelError) -> None:
        if (
            self.leaving
        ):  # Ctrl-C reaches the processes that we start too: what they leave half done is no error
            log.warning("ended before it was ready", reason=str(error))
            return
        self.reason, self.broken = error.short, error
        self.on_broken()

    def _serve(self, stack: contextlib.ExitStack) -> None:
        """From the first connection until the process stops."""
        self.definitions = definition_catalog.describe(self.pool.source)
        self.pool = self.pool.without(self.definitions.unloadable)
        for said in self.definitions.empty:
            log.warning("no migration", reason=said)
        for each in self.definitions.broken:
            log.warning("a migration is broken", migration=each.name, source=each.source, reason=each.reason)
        at = self._patiently(lambda: stack.enter_context(opened(self.settings)))
        if at is None:
            return
        self.on_reached(at)
        self.reason = "MongoDB is there; the broker has not answered yet."
        supervisor = self._supervisor(at) if self._with_workers else None
        parent = self._patiently(
            lambda: stack.enter_context(
                ParentProcess(at.store, self.settings, supervisor, scheduling=self._evaluated)
            )
        )
        if parent is None:
            return
        if supervisor is not None:
            stack.callback(supervisor.leave, DRAINING, self._hurried.is_set)
        self.parent, self.supervisor, self._opened = parent, supervisor, at
        stack.callback(self._close)
        log.info("ready", database=at.where)
        while not self._over.wait(0.2):
            if parent.broken is not None:
                raise parent.broken

    def _evaluated(self, name: str) -> Definition:
        return definition_catalog.evaluate(self.pool.source, name, self.pool.left_out)

    def _patiently(self, reach: Callable[[], T]) -> T | None:
        """What is reached, after however many attempts; None when the process stops before."""
        pause = FIRST_PAUSE
        while not self._over.is_set():
            try:
                return reach()
            except WAITED_FOR as error:
                self.reason = error.short
                log.warning("not ready", reason=str(error), seconds_to_next_attempt=pause)
            self._over.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        return None

    def _supervisor(self, system: Opened) -> Supervisor:
        longest = max(each.timeout for each in self.definitions.values())
        return self.pool.supervisor(system, self.settings, run=None, longest_call=longest, stderr=None)

    def _close(self) -> None:
        self._opened, self.reason = None, "It stops."


async def _system(request: Request) -> System:
    found: System = request.app.state.system
    return found


ThisSystem = Annotated[System, Depends(_system)]


async def _at(system: ThisSystem) -> Opened:
    return system.at


Deployment = Annotated[Opened, Depends(_at)]
