"""S2 and its repair: announces pointers through the broker, and again where the broker lost them (hole H28).

Only the times of the next look are kept here; the ledger knows which batches wait. A coordinator
that dies takes nothing with it: the next one looks a little later.
"""

import time
from collections.abc import Callable, Collection, Sequence

import structlog

from whimbrel.domain.runs.batches import Batch, BatchPointer
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.repeated_errors import RepeatedErrors
from whimbrel.errors import BrokerRefused, BrokerUnavailable
from whimbrel.ports import Broker, Ledger
from whimbrel.ports.ledger import CONSUMERS

log = structlog.get_logger("whimbrel.coordinator")

LONGEST = 60.0  # seconds between two announcements of one batch at most
PAGE = 1000  # queued batches of a run that are looked at: later ones follow when these are gone
SECONDS = 0.5  # that announcing all queued batches may take


class Announcer:
    """Announces the batches of one process's runs.

    `pause`: seconds after which a batch that is still queued is announced again, if the broker holds fewer pointers
    than batches are queued; doubled each time. `patience`: seconds beyond that pause after which the broker's number is not
    asked any more.
    """

    def __init__(self, ledger: Ledger, broker: Broker, *, pause: float, patience: float = LONGEST) -> None:
        self._ledger, self._broker, self._pause, self._patience = ledger, broker, pause, patience
        self._due: dict[
            str, dict[str, tuple[float, float]]
        ] = {}  # run -> batch -> when, and the pause after it
        self._next: dict[str, float] = {}  # run -> when to look
        self.on_announced: Callable[[], None] = lambda: None  # workers of this process may look at once
        self.trouble = ""  # why pointers do not go out
        self.pause_reason = ""  # why a person must look at that
        self._repeated_errors = RepeatedErrors()
        self._since = 0.0  # when the trouble began
        self._asked, self._lacked = float("-inf"), False  # the last look at what the broker holds
        self._asleep: set[str] = set()  # runs that wait for long: their pointers are acknowledged until then

    @property
    def broker(self) -> Broker:
        return self._broker

    @property
    def polled(self) -> bool:
        """Whether workers poll the ledger, and nothing is announced."""
        return self._broker.polled

    def check(self) -> None:
        """Checks that the broker answers. Raises BrokerUnavailable, BrokerRefused."""
        self._broker.waiting()

    def stuck(self, seconds: float) -> bool:
        """Whether pointers have not gone out for so long: another process may reach the broker. The next call counts anew."""
        if not self.trouble or time.monotonic() - self._since < seconds:
            return False
        self._since = time.monotonic()
        return True

    def keep(self, runs: Collection[str]) -> None:
        """Forgets all other runs."""
        self._due = {run: due for run, due in self._due.items() if run in runs}
        self._next = {run: due for run, due in self._next.items() if run in runs}
        self._asleep &= set(runs)

    def pass_over(self, run_id: str, *, asleep: bool) -> None:
        """Announces nothing of a run again while it is asleep, nor misses its pointers."""
        if asleep:
            self._asleep.add(run_id)
        else:
            self._asleep.discard(run_id)

    def announce(self, run: Run, batches: Sequence[Batch | BatchPointer]) -> None:
        """Announces batches. Never fails: what could not be sent is announced as soon as the broker takes it."""
        try:
            self._broker.announce(run, batches)
        except (BrokerUnavailable, BrokerRefused) as error:
            self._record_error(error)
            self._due.setdefault(run.id, {}).update({batch.token: (0.0, self._pause) for batch in batches})
        else:
            self._record_success()
        self.on_announced()

    def announce_released(self, batches: Sequence[Batch]) -> None:
        """Announces batches that were taken from dead workers: their pointers may be lost with them."""
        for run_id in {batch.run for batch in batches}:
            run = self._ledger.runs.get(run_id)
            if run is not None and run.status is RunStatus.RUNNING:
                self.announce(run, [batch for batch in batches if batch.run == run_id])

    def announce_all(self, run: Run) -> None:
        """Announces all queued batches, as far as there is time: their pointers were acknowledged while the run was not running."""
        if self._broker.polled:
            return
        end, after = time.monotonic() + SECONDS, -1
        while page := self._ledger.batches.waiting(run.id, PAGE, after=after):
            self.announce(run, page)
            after = page[-1].seq
            if self.trouble or time.monotonic() > end:
                return

    def repair(self, run: Run) -> None:
        """Announces again what has waited for longer than its pause, if the broker holds too few pointers.

        What has waited for very long is announced whatever the broker holds: useless pointers may hide that the right one is missing.
        """
        now = time.monotonic()
        if self._broker.polled or run.id in self._asleep or now < self._next.get(run.id, 0.0):
            return
        self._next[run.id] = now + min(1.0, self._pause / 2)
        if self._ledger.leases.is_off(CONSUMERS):
            return  # nobody takes pointers now
        queued = self._ledger.batches.waiting(run.id, PAGE)
        before = self._due.get(run.id, {})
        due = {batch.token: before.get(batch.token, (now + self._pause, self._pause)) for batch in queued}
        self._due[run.id] = due
        late = [batch for batch in queued if due[batch.token][0] <= now]
        lost = (
            late
            if self._broker_lacks_pointers()
            else [batch for batch in late if due[batch.token][0] + self._patience <= now]
        )
        if self.trouble or not lost:
            return
        for batch in lost:
            pause = min(2 * due[batch.token][1], LONGEST)
            due[batch.token] = now + pause, pause
        log.info("announced again", run=run.id, batches=len(lost))
        self.announce(run, lost)

    def _broker_lacks_pointers(self) -> bool:
        """Whether the broker holds fewer pointers than batches of running runs are queued. This also finds out that it is back.

        Asked once for all runs that need to know at about the same time.
        """
        now = time.monotonic()
        if now - self._asked < min(0.5, self._pause / 4):
            return self._lacked
        self._asked, self._lacked = now, False
        try:
            ready = self._broker.waiting()
        except (BrokerUnavailable, BrokerRefused) as error:
            self._record_error(error)
            return False
        self._record_success()
        at_work = self._ledger.runs.at_work()
        running = [
            run.id for run in at_work if run.status is RunStatus.RUNNING and run.id not in self._asleep
        ]
        self._lacked = ready < self._ledger.batches.queued(running, most=ready + 1)
        return self._lacked

    def _record_error(self, error: Exception) -> None:
        if not self.trouble:
            log.warning("pointers do not go out", reason=str(error))
            self._since = time.monotonic()
        self.trouble = f"Waits for the broker: {error}"
        self.pause_reason = self._repeated_errors.record("", error)

    def _record_success(self) -> None:
        self.trouble = self.pause_reason = ""
        self._repeated_errors.forget("")
