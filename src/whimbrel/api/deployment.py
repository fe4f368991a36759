"""Builds what the routes work with in the background, so that the port answers at once and says what it waits for."""

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
from whimbrel.domain.migrations.definition import Definition
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.errors import DatabaseRefused, DatabaseUnreachable, Systemic, Transient, WhimbrelError
from whimbrel.settings import Settings
from whimbrel.workers import definition_catalog
from whimbrel.workers.parent_process import ParentProcess
from whimbrel.workers.supervisor import Supervisor
from whimbrel.workers.worker_pool import WorkerPool

log = structlog.get_logger("whimbrel.api")
T = TypeVar("T")

FIRST_PAUSE = 0.5  # seconds between the first two attempts to reach a dependency; doubled each time
LONGEST_PAUSE = 10.0  # seconds
DRAINING = 30.0  # seconds that workers have to finish their chunks
ASKING = 1.0  # seconds to wait at the end for an attempt to reach a dependency, which holds nothing
WAITED_FOR = (DatabaseUnreachable, DatabaseRefused, Transient)


class System:
    """One process's connections, coordinator and workers."""

    def __init__(self, settings: Settings, pool: WorkerPool, *, workers: bool) -> None:
        self.settings, self.pool, self._with_workers = settings, pool, workers
        self.reason = "It starts: MongoDB has not been asked yet."
        self.broken: WhimbrelError | None = None  # an error that waiting does not cure
        self.on_broken: Callable[[], None] = lambda: None
        self.on_reached: Callable[[Opened], None] = lambda _: None  # called when MongoDB is first reached
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
        self._thread = threading.Thread(target=self._run, name="system", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def leave(self) -> None:
        """Ends endless answers now, as the process will soon be stopped."""
        self._leaving.set()

    def hurry(self) -> None:
        """Kills the workers without letting them finish their chunks; their batches are given back."""
        self._hurried.set()

    def stop(self) -> None:
        """Drains the workers and closes everything. Returns when that is done, or its time is over."""
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
    def deployment(self) -> Opened:
        """The opened deployment. Raises ApiError (503) until it is reached."""
        deployment = self._opened
        if deployment is None:
            raise ApiError(503, "not_ready", self.reason)
        return deployment

    def within(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Returns a context in which MongoDB has so many seconds for all statements together, once it is reached."""
        return self._opened.store.within(seconds) if self._opened is not None else contextlib.nullcontext()

    @property
    def announcer(self) -> Announcer:
        """The announcer of this process. Raises ApiError (503) until the deployment is reached."""
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
        """Returns a migration as its code evaluates it now. Raises MigrationUnknown, DefinitionInvalid; ApiError (503) before migrations are loaded."""
        choose(self.loaded, name)
        return self._evaluated(name)

    def why(self, error: WhimbrelError) -> str:
        """Returns one sentence about a dependency that is down; the log has all of it."""
        return self._outages.sentence_for(error, "" if self.parent is None else self.parent.lost)

    @property
    def uptime(self) -> float:
        return time.time() - self.started

    def _run(self) -> None:
        try:
            with contextlib.ExitStack() as stack:
                self._serve(stack)
        except WhimbrelError as error:
            self._fail(error)
        except Exception as error:
            # The last resort of the thread: else the port would answer 503 for ever without a reason.
            log.exception("the system broke")
            self._fail(Systemic(f"Whimbrel itself failed: {type(error).__name__}: {error}"))

    def _fail(self, error: WhimbrelError) -> None:
        if self.leaving:  # Ctrl-C reaches child processes too: what they leave unfinished is no error
            log.warning("ended before it was ready", reason=str(error))
            return
        self.reason, self.broken = error.short, error
        self.on_broken()

    def _serve(self, stack: contextlib.ExitStack) -> None:
        """Serves from the first connection until the process stops."""
        self.definitions = definition_catalog.describe(self.pool.source)
        self.pool = self.pool.without(self.definitions.unloadable)
        for notice in self.definitions.empty:
            log.warning("no migration", reason=notice)
        for broken in self.definitions.broken:
            log.warning(
                "a migration is broken", migration=broken.name, source=broken.source, reason=broken.reason
            )
        deployment = self._retry_until_reached(lambda: stack.enter_context(opened(self.settings)))
        if deployment is None:
            return
        self.on_reached(deployment)
        self.reason = "MongoDB is there; the broker has not answered yet."
        supervisor = self._supervisor(deployment) if self._with_workers else None
        parent = self._retry_until_reached(
            lambda: stack.enter_context(
                ParentProcess(deployment.store, self.settings, supervisor, scheduling=self._evaluated)
            )
        )
        if parent is None:
            return
        if supervisor is not None:
            stack.callback(supervisor.leave, DRAINING, self._hurried.is_set)
        self.parent, self.supervisor, self._opened = parent, supervisor, deployment
        stack.callback(self._close)
        log.info("ready", database=deployment.where)
        while not self._over.wait(0.2):
            if parent.broken is not None:
                raise parent.broken

    def _evaluated(self, name: str) -> Definition:
        return definition_catalog.evaluate(self.pool.source, name, self.pool.left_out)

    def _retry_until_reached(self, reach: Callable[[], T]) -> T | None:
        """Calls `reach` until it succeeds; returns None when the process stops first."""
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
        longest = max(definition.timeout for definition in self.definitions.values())
        return self.pool.supervisor(system, self.settings, run=None, longest_call=longest, stderr=None)

    def _close(self) -> None:
        self._opened, self.reason = None, "It stops."


async def _system(request: Request) -> System:
    system: System = request.app.state.system
    return system


ThisSystem = Annotated[System, Depends(_system)]


async def _deployment(system: ThisSystem) -> Opened:
    return system.deployment


Deployment = Annotated[Opened, Depends(_deployment)]
