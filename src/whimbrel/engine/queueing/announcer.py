"""S2 and its repair: pointers go out through the broker, and out again where it lost them (hole H28).

What is kept here is only when to look again; which batches wait is the ledger's to say. A coordinator
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

LONGEST = 60.0  # seconds between two announcements of one batch
PAGE = 1000  # queued batches of a run that are looked at: those behind them come when these have gone
SECONDS = 0.5  # that announcing all that is queued may take


class Announcer:
    """One process's announcements.

    `pause`: seconds after which a batch that still is queued is announced again, if the broker holds fewer pointers
    than batches are queued; doubled with each time. `patience`: seconds beyond that pause, after which the broker's number is not
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
        self.hopeless = ""  # why a person must see to that
        self._repeated_errors = RepeatedErrors()
        self._since = 0.0  # when that began
        self._asked, self._lacked = float("-inf"), False  # the last look at what the broker holds

    @property
    def broker(self) -> Broker:
        return self._broker

    @property
    def polled(self) -> bool:
        """Whether workers look for themselves, and nothing is announced."""
        return self._broker.polled

    def check(self) -> None:
        """Ask the broker whether it answers. Raises BrokerUnavailable, BrokerRefused."""
        self._broker.waiting()

    def stuck(self, seconds: float) -> bool:
        """Whether pointers have not gone out for so long: another process may reach the broker. Asked again, it starts anew."""
        if not self.trouble or time.monotonic() - self._since < seconds:
            return False
        self._since = time.monotonic()
        return True

    def keep(self, runs: Collection[str]) -> None:
        """Forget what is not among these runs."""
        self._due = {run: due for run, due in self._due.items() if run in runs}
        self._next = {run: at for run, at in self._next.items() if run in runs}

    def announce(self, run: Run, batches: Sequence[Batch | BatchPointer]) -> None:
        """Never fails: what could not go out is announced as soon as the broker takes it."""
        try:
            self._broker.announce(run, batches)
        except (BrokerUnavailable, BrokerRefused) as error:
            self._complain(error)
            self._due.setdefault(run.id, {}).update({each.token: (0.0, self._pause) for each in batches})
        else:
            self._over()
        self.on_announced()

    def released(self, batches: Sequence[Batch]) -> None:
        """Batches that were taken from dead workers: their pointers may be gone with them."""
        for run_id in {each.run for each in batches}:
            run = self._ledger.runs.get(run_id)
            if run is not None and run.status is RunStatus.RUNNING:
                self.announce(run, [each for each in batches if each.run == run_id])

    def everything(self, run: Run) -> None:
        """All that is queued, as far as there is time: a run begins again, and its pointers were acknowledged while it was not running."""
        if self._broker.polled:
            return
        end, after = time.monotonic() + SECONDS, -1
        while page := self._ledger.batches.waiting(run.id, PAGE, after=after):
            self.announce(run, page)
            after = page[-1].seq
            if self.trouble or time.monotonic() > end:
                return

    def repair(self, run: Run) -> None:
        """Announce again what has waited for longer than its pause, if the broker holds too few pointers.

        What has waited for very long is announced whatever the broker holds: pointers that nobody needs may hide that it is missing.
        """
        now = time.monotonic()
        if self._broker.polled or now < self._next.get(run.id, 0.0):
            return
        self._next[run.id] = now + min(1.0, self._pause / 2)
        if self._ledger.leases.off(CONSUMERS):
            return  # nobody takes them now
        queued = self._ledger.batches.waiting(run.id, PAGE)
        before = self._due.get(run.id, {})
        due = {each.token: before.get(each.token, (now + self._pause, self._pause)) for each in queued}
        self._due[run.id] = due
        late = [each for each in queued if due[each.token][0] <= now]
        lost = (
            late if self._lacking() else [each for each in late if due[each.token][0] + self._patience <= now]
        )
        if self.trouble or not lost:
            return
        for each in lost:
            pause = min(2 * due[each.token][1], LONGEST)
            due[each.token] = now + pause, pause
        log.info("announced again", run=run.id, batches=len(lost))
        self.announce(run, lost)

    def _lacking(self) -> bool:
        """Whether the broker holds fewer pointers than batches of running runs are queued. Also how one learns that it is back.

        Asked once for all runs that want to know at about the same time.
        """
        now = time.monotonic()
        if now - self._asked < min(0.5, self._pause / 4):
            return self._lacked
        self._asked, self._lacked = now, False
        try:
            ready = self._broker.waiting()
        except (BrokerUnavailable, BrokerRefused) as error:
            self._complain(error)
            return False
        self._over()
        running = [run.id for run in self._ledger.runs.at_work() if run.status is RunStatus.RUNNING]
        self._lacked = ready < self._ledger.batches.queued(running, most=ready + 1)
        return self._lacked

    def _complain(self, error: Exception) -> None:
        if not self.trouble:
            log.warning("pointers do not go out", reason=str(error))
            self._since = time.monotonic()
        self.trouble = f"Waits for the broker: {error}"
        self.hopeless = self._repeated_errors.record("", error)

    def _over(self) -> None:
        self.trouble = self.hopeless = ""
        self._repeated_errors.forget("")
