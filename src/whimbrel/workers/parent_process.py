"""A parent's threads: the coordinator and the sweep, each by lease, and the supervision of its children."""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Self

import structlog

from whimbrel.bootstrap import broker, check_tracing, revive, step_hook, tracing, webhook_sender
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.protocol_times import Times
from whimbrel.domain.runs.run import Run
from whimbrel.domain.text.safe_text import exception_message, type_name
from whimbrel.engine.coordinating.coordinator import Coordinator
from whimbrel.engine.housekeeping.prune import ROUND, Pruner
from whimbrel.engine.operating.checks_apart import Apart, BrokerAlarm
from whimbrel.engine.operating.scheduler import Scheduler
from whimbrel.engine.queueing.announcer import Announcer
from whimbrel.engine.repeated_errors import FAULTS
from whimbrel.engine.sampling.sampler import EVERY, Sampler
from whimbrel.errors import EmbeddedUnavailable, Systemic, Transient, WhimbrelError
from whimbrel.ports import HealthReader, Store, Watching
from whimbrel.settings import Settings
from whimbrel.workers.supervisor import Supervisor

log = structlog.get_logger("whimbrel.parent")

ADDING = 1.0  # seconds of a sweep that adding up failures may take
LEAST = 0.02  # seconds between two rounds at least, however much there is to do
SCHEDULING = 0.5  # seconds between two checks for ticks
WEBHOOKS = 0.5  # seconds between two looks for what webhooks have to tell
TELLING = 3.0  # seconds that telling it may take at the end


class ParentProcess:
    """One parent process at work. Entering it starts its threads; leaving it stops them.

    `scheduling`: evaluates the migration of a name by its code as it is now, for schedules. Such a process stays, and
    applies the retention too; None: it is no scheduler.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        supervisor: Supervisor | None,
        *,
        scheduling: Callable[[str], Definition] | None = None,
    ) -> None:
        self._store, self._settings, self._supervisor = store, settings, supervisor
        self._scheduling = scheduling
        self._times: Times = settings.times
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.broken: WhimbrelError | None = None  # what ended a thread that cannot continue
        self.lost = ""  # why the embedded MongoDB cannot be started again
        self._ended = threading.Event()
        # The coordinator has something to do before its pause is over.
        self._wake_coordinator = threading.Event()
        self._broker = broker(settings, self.name)
        self.announcer = Announcer(store.ledger, self._broker, pause=self._times.broker)
        self._threads: list[threading.Thread] = []
        self._webhooks = webhook_sender(settings, store, self.name)
        self._reader: HealthReader | None = None
        if why := check_tracing():
            log.warning("no spans", reason=why)
        self._tracing = tracing(self.name)

    def __enter__(self) -> Self:
        """Starts the threads. Raises BrokerUnavailable, BrokerRefused where a broker cannot be used; DatabaseRefused as `Store.prepare` does."""
        self._store.prepare()  # a ledger of an earlier version may lack indexes
        try:
            self._broker.connect(self._settings.whimbrel_connect_seconds)
        except WhimbrelError:
            self._broker.close()
            raise
        coordinator = Coordinator(
            self._store,
            self.announcer,
            name=self.name,
            role_seconds=self._times.lease,
            step=step_hook(),
            watched=self._store.watching is not None,
            on_ended=self._trace,
        )
        if self._supervisor is not None:
            self._supervisor.on_released = self.announcer.announce_released
            self._supervisor.on_idle, self.announcer.on_announced = (
                self._wake_coordinator.set,
                self._supervisor.wake_idle,
            )
        rounds = [(coordinator.tick, self._times.tick), (self._sweep, self._times.sweep), (self._revive, 1.0)]
        if self._supervisor is not None:
            rounds.append((self._supervisor.check_children, 0.05))
        if self._webhooks is not None:
            rounds.append((self._webhooks.round, WEBHOOKS))
        if self._store.watching is not None:
            rounds.append((self._sampler(self._store.watching).round, EVERY))
        if self._scheduling is not None:
            scheduler = Scheduler(
                self._store, self._scheduling, name=self.name, role_seconds=self._times.lease,
                defaults=self._settings.defaults, first=self._settings.first_schedule, step=step_hook(),
            )  # fmt: skip
            pruner = Pruner(self._store.ledger, self._settings.whimbrel_keep_days, name=self.name)
            rounds += [(scheduler.tick, SCHEDULING), (pruner.tick, ROUND)]
        for round_, pause in rounds:
            thread = threading.Thread(
                target=self._repeat,
                args=(round_, pause, self._wake_coordinator if round_ == coordinator.tick else self._ended),
                name=round_.__qualname__,
                daemon=True,
            )
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._wake_coordinator.set()
        end = time.monotonic() + 5
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._broker.close()
        if self._tracing is not None:
            self._tracing.close()
        if any(thread.is_alive() for thread in self._threads):
            log.warning("the ledger does not answer; this process's roles will end by themselves")
            return
        if self._webhooks is not None:
            self._webhooks.finish(TELLING)
        if self._reader is not None:
            self._reader.close()
        try:
            self._store.ledger.leases.step_down(self.name)
        except Transient:
            log.warning("the ledger does not answer; this process's roles will end by themselves")

    def _sampler(self, watching: Watching) -> Sampler:
        self._reader = self._store.health_reader()
        checks = [BrokerAlarm(self._broker), *watching.checks]
        return Sampler(self._store, self._reader, name=self.name, apart=[Apart(check) for check in checks])

    def _trace(self, run: Run) -> None:
        """Makes the span of a run that this process has ended."""
        if self._tracing is not None:
            self._tracing.run_ended(run)

    def _repeat(self, round_: Callable[[], None], pause: float, wake: threading.Event) -> None:
        """Repeats a round until the process ends. `wake` ends a pause early."""
        faults = 0
        while not self._ended.is_set():
            started, pause_at_least = time.monotonic(), LEAST
            if wake is self._wake_coordinator:
                wake.clear()
            try:
                round_()
                faults = 0
            except Transient as error:
                log.warning("the ledger does not answer", error=str(error))
                pause_at_least = 0.2
            except WhimbrelError as error:
                self.broken = error
                return
            except Exception as error:
                # The last resort of a thread: if it ended silently, the process would go on doing nothing.
                log.exception("a round broke")
                faults, pause_at_least = faults + 1, 1.0
                if faults == FAULTS:
                    self.broken = Systemic(
                        f"Whimbrel itself failed, {FAULTS} times in a row: {type_name(error)}: {exception_message(error, 500)}"
                    )
                    return
            self._ended.wait(pause_at_least)
            wake.wait(pause - (time.monotonic() - started))

    def _sweep(self) -> None:
        """Queues again what expired leases hold, and keeps numbers of failures; one process in the cluster does it."""
        if self._store.ledger.leases.lead("sweep", self.name, self._times.sweep * 3):
            released = self._store.ledger.batches.take_over()
            for batch in released:
                log.warning("a lost lease was taken over", batch=batch.token, worker=batch.worker)
            self.announcer.announce_released(released)
            self._store.ledger.failures.keep_some(ADDING)

    def _revive(self) -> None:
        try:
            revive(self._settings)
            self.lost = ""
        except EmbeddedUnavailable as error:
            self.lost = error.short
            log.warning("the embedded MongoDB cannot be started again", error=str(error))
