"""What the routes work with, built in the background: the port answers at once, and says what it still waits for."""

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Annotated

import structlog
from fastapi import Depends, Request

from whimbrel.api.errors import Declined
from whimbrel.bootstrap import Opened, opened
from whimbrel.domain.migration import Definition
from whimbrel.engine.announce import Announcer
from whimbrel.errors import DatabaseRefused, DatabaseUnreachable, Transient, WhimbrelError
from whimbrel.settings import Settings
from whimbrel.workers import catalog
from whimbrel.workers.fleet import Fleet
from whimbrel.workers.parent import Parent
from whimbrel.workers.team import Team

log = structlog.get_logger("whimbrel.api")

LONGEST_PAUSE = 10.0  # seconds between two attempts to reach a dependency
DRAINING = 30.0  # seconds that workers have to finish their chunks
WAITED_FOR = (DatabaseUnreachable, DatabaseRefused, Transient)


class System:
    """One process's connections, coordinator and workers."""

    def __init__(self, settings: Settings, team: Team, *, workers: bool) -> None:
        self.settings, self.team, self._with_workers = settings, team, workers
        self.reason = "It starts: MongoDB has not been asked yet."
        self.broken: WhimbrelError | None = None  # what no waiting mends
        self.on_broken: Callable[[], None] = lambda: None
        self.started = time.time()
        self.version = version("whimbrel")
        self.definitions: Mapping[str, Definition] = {}
        self.parent: Parent | None = None
        self.fleet: Fleet | None = None
        self._opened: Opened | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, name="system", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Drain the workers, and close everything. Returns when it is done, or its time is over."""
        self._over.set()
        self._thread.join(DRAINING + 10)

    @property
    def ready(self) -> bool:
        return self._opened is not None and not self._over.is_set()

    @property
    def at(self) -> Opened:
        """The deployment. Raises Declined (503) while it is not reached."""
        found = self._opened
        if found is None:
            raise Declined(503, "not_ready", self.reason)
        return found

    @property
    def announcer(self) -> Announcer:
        """What this process announces batches through. Raises Declined (503) while the deployment is not reached."""
        if not self.ready or self.parent is None:
            raise Declined(503, "not_ready", self.reason)
        return self.parent.announcer

    @property
    def loaded(self) -> Mapping[str, Definition]:
        """The migrations by name. Raises Declined (503) before they are loaded."""
        if not self.definitions:
            raise Declined(503, "not_ready", self.reason)
        return self.definitions

    @property
    def uptime(self) -> float:
        return time.time() - self.started

    def _live(self) -> None:
        pause = 0.5
        while not self._over.is_set():
            try:
                self._serve()
            except WAITED_FOR as error:
                self.reason = str(error)
                log.warning("not ready", reason=self.reason)
            except WhimbrelError as error:
                self.reason, self.broken = str(error), error
                self.on_broken()
                return
            self._over.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _serve(self) -> None:
        """From the first connection until the process stops."""
        with contextlib.ExitStack() as stack:
            self.definitions = catalog.describe(self.team.source)
            at = stack.enter_context(opened(self.settings))
            self.reason = "MongoDB is there; the broker has not answered yet."
            fleet = self._fleet(at) if self._with_workers else None
            parent = stack.enter_context(Parent(at.store, self.settings, fleet, scheduling=self.definitions))
            if fleet is not None:
                stack.callback(fleet.drain, DRAINING)
            self.parent, self.fleet, self._opened = parent, fleet, at
            stack.callback(self._close)
            log.info("ready", database=at.where)
            while not self._over.wait(0.2):
                if parent.broken is not None:
                    raise parent.broken

    def _fleet(self, at: Opened) -> Fleet:
        longest = max(each.timeout for each in self.definitions.values())
        return self.team.fleet(at, self.settings, run=None, longest_call=longest, stderr=None)

    def _close(self) -> None:
        self._opened, self.reason = None, "It stops."


def _system(request: Request) -> System:
    found: System = request.app.state.system
    return found


def _at(request: Request) -> Opened:
    return _system(request).at


ThisSystem = Annotated[System, Depends(_system)]
Deployment = Annotated[Opened, Depends(_at)]
