"""The worker processes that a command or a server starts."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from whimbrel.bootstrap import Opened
from whimbrel.logs import on_console
from whimbrel.settings import Settings
from whimbrel.workers.child_pipes import StandardError
from whimbrel.workers.child_process import ChildProcess, start_child
from whimbrel.workers.memory_limit import limit_of
from whimbrel.workers.migration_loader import LEFT_OUT
from whimbrel.workers.supervisor import STANDARD_ERROR, Supervisor


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerPool:
    """The worker processes that a command starts."""

    workers: int | None = None
    slots: int = 2
    source: str | None = None  # of the migrations
    lanes: tuple[str, ...] = ()  # queues to take from; empty: all
    memory: int | None = None  # bytes that each process may hold; 0: no limit; None: the default
    left_out: tuple[str, ...] = ()  # files of the source that no process may load: see `Catalog.unloadable`

    @property
    def processes(self) -> int:
        return cores() if self.workers is None else self.workers

    def without(self, files: tuple[str, ...]) -> "WorkerPool":
        return replace(self, left_out=files)

    def supervisor(
        self, opened: Opened, settings: Settings, *, run: str | None, longest_call: float, stderr: int | None
    ) -> Supervisor:
        ledger, size = opened.store.ledger, self.processes
        if settings.rabbitmq_url:
            run = None  # queues are shared: pointers of other runs arrive too
        supervisor = Supervisor(
            ledger.batches, self._environment(opened.uri, settings), leases=ledger.leases, lanes=self.lanes,
            size=size, slots=self.slots, run=run, longest_call=longest_call, stderr=stderr,
        )  # fmt: skip
        supervisor.loading = settings.whimbrel_loading
        supervisor.memory = limit_of(self.memory, max(1, size))
        return supervisor

    @contextlib.contextmanager
    def ahead(self, settings: Settings, stderr: int | None) -> Iterator[ChildProcess | None]:
        """Starts one of its processes before there is work: it loads the migrations meanwhile. A supervisor may adopt it; otherwise it is ended.

        Yields None where it is not known yet which database it will serve, or the pool has no processes.
        """
        if not settings.mongodb_uri or not self.processes:
            yield None
            return
        number = STANDARD_ERROR if stderr is None else stderr
        environment = {**os.environ, **self._environment(settings.mongodb_uri, settings)}
        child = start_child(
            environment, slots=self.slots, lanes=self.lanes, stderr=number, sink=StandardError(number)
        )
        try:
            yield child
        finally:
            if not child.serving:
                child.process.kill()
                child.process.wait()
                child.close()

    def _environment(self, uri: str, settings: Settings) -> dict[str, str]:
        # They write to a pipe, and would take it for the pipe of a service.
        style = {"LOG_FORMAT": "console"} if on_console() else {}
        return {
            **style,
            "MONGODB_URI": uri,
            "MONGODB_DB_NAME": settings.database,
            "WHIMBREL_MIGRATIONS": self.source or "",
            LEFT_OUT: json.dumps(self.left_out),
            "RABBITMQ_URL": settings.rabbitmq_url or "",
            "RABBITMQ_EXCHANGE": settings.rabbitmq_exchange,
        }
