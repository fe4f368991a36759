"""Reads signals that come from elsewhere than MongoDB, each on a thread of its own: one that hangs delays no other."""

import threading
import time
from collections.abc import Sequence

from whimbrel.domain.health.readings import Reading
from whimbrel.domain.health.signals import SIGNALS, Signal
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Broker, HealthCheck, Watching

LIMIT = 1.0  # seconds that an answer may take
FRESH = 5.0  # seconds for which an answer counts
UNBROKERED = "there is no RabbitMQ: workers look into the ledger"


class Apart:
    """One check. Each look returns what the look before has begun, and begins another; at most one is under way."""

    def __init__(self, check: HealthCheck) -> None:
        self._check = check
        self._latest: tuple[float, Reading] | None = None  # when it came, and what
        self._thread: threading.Thread | None = None
        self._began = 0.0

    @property
    def signal(self) -> Signal:
        return self._check.signal

    def look(self) -> Reading:
        """Returns the latest answer, without a wait."""
        now = time.monotonic()
        if self._thread is None or not self._thread.is_alive():
            self.begin()
        elif now - self._began > LIMIT:
            self._check.abandon()
            return self._unread(f"it did not answer within {LIMIT:g} s")
        if self._latest is None:
            return self._unread("it has not answered yet")
        at, reading = self._latest
        return reading if now - at < FRESH else self._unread(f"it has not answered for {now - at:.0f} s")

    def begin(self) -> None:
        """Asks, on another thread."""
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._read, name=f"check {self.signal.name}", daemon=True)
        self._thread.start()

    def wait(self, until: float) -> Reading:
        """Returns the answer to what `begin` has asked, waiting until then by `time.monotonic` at most."""
        if self._thread is not None:
            self._thread.join(max(0.0, until - time.monotonic()))
            if self._thread.is_alive():
                self._check.abandon()
                return self._unread(f"it did not answer within {LIMIT:g} s")
        return self._latest[1] if self._latest is not None else self._unread("it has not answered")

    def _read(self) -> None:
        reading = self._check.read()
        self._latest = time.monotonic(), reading

    def _unread(self, problem: str) -> Reading:
        return Reading(self.signal.name, None, problem=problem)


class BrokerAlarm:
    """Implements `HealthCheck`: whether RabbitMQ has stopped all publishers."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    @property
    def signal(self) -> Signal:
        return SIGNALS["broker-alarm"]

    def read(self) -> Reading:
        how = "AMQP connection.blocked"
        if self._broker.queues is None:
            return unbrokered()
        try:
            return Reading(self.signal.name, float(self._broker.alarmed()), how=how)
        except WhimbrelError as error:
            return Reading(self.signal.name, None, how=how, problem=str(error))

    def abandon(self) -> None:
        """Its request ends by itself."""


def unbrokered() -> Reading:
    return Reading("broker-alarm", None, absent=UNBROKERED)


def answers(watching: Watching) -> Sequence[Reading]:
    """Asks the user's own checks now, all at once, and returns their answers."""
    apart = [Apart(check) for check in watching.checks]
    for each in apart:
        each.begin()
    until = time.monotonic() + LIMIT
    return [each.wait(until) for each in apart]
