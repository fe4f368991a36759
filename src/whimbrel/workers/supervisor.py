"""The parent's side: starts children, restarts those that die, releases what they held, drains them at the end."""

import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version

import structlog

from whimbrel.domain.runs.batches import Batch
from whimbrel.errors import DefinitionInvalid, SettingsInvalid, Transient, WhimbrelError
from whimbrel.ports import Batches, Leases
from whimbrel.workers.child_pipes import StandardError
from whimbrel.workers.child_process import ChildProcess, prefix, start_child
from whimbrel.workers.memory_limit import MemoryLimit, memory_of, shown

log = structlog.get_logger("whimbrel.workers")

# Exit codes of a child that would fail again: settings, definitions, permissions, the broker refuses.
HOPELESS = frozenset({64, 65, 71, 74})
POLL_SECONDS = 0.1  # between two checks whether draining has to end at once
SILENCE = 30.0  # seconds without a sign of life, beyond a function's own time limit
LOADING = 600.0  # seconds that importing the migrations may take
LOADS = 3  # processes in a row that end while they load before that counts as hopeless
SLOW = 2.0  # seconds of loading after which the ledger is told, each time
UNRELEASED = 1000  # dead children that are remembered while the ledger does not answer: leases of others end by themselves
STANDARD_ERROR = 2


class Supervisor:
    """The children of one parent."""

    def __init__(
        self,
        batches: Batches,
        environment: Mapping[str, str],
        *,
        size: int,
        slots: int,
        run: str | None,
        longest_call: float,
        stderr: int | None = None,
        leases: Leases | None = None,
        lanes: Sequence[str] = (),
    ) -> None:
        self._batches, self._environment = batches, {**os.environ, **environment}
        # Where dead children are signed off; without it they count as alive for some seconds.
        self._leases = leases
        self._size, self._slots, self._run, self._lanes = size, slots, run, lanes
        self.memory: MemoryLimit | None = None
        self.replaced = 0  # children that were replaced because they held more
        self.on_released: Callable[[Sequence[Batch]], None] = lambda _batches: None
        self.on_idle: Callable[[], None] = lambda: None  # a child has ended its last batch
        # The stream for children's logs and user code's output; None: the one that this process writes its own logs to.
        self._stderr = STANDARD_ERROR if stderr is None else stderr
        self._sink = StandardError(self._stderr)
        self.loading = LOADING  # seconds that importing the migrations may take
        # A parent's thread checks children while its main thread drains or kills.
        self._lock = threading.RLock()
        self._silence = longest_call + SILENCE
        self._children: list[ChildProcess] = []
        self._fatal_error: WhimbrelError | None = None
        self._unloaded = 0  # children in a row that ended while they loaded
        self._draining = threading.Event()
        self._unreachable = False  # the ledger, while draining: it is not asked again
        self._unreleased = deque[str](maxlen=UNRELEASED)  # names of dead children that still hold batches
        self._due = 0.0  # when the next child may be started
        self._pause = 0.1

    def adopt(self, child: ChildProcess) -> None:
        """Takes over a child that was started before: it has loaded the migrations by now, or is about to."""
        child.on_idle = self._idle
        with self._lock:
            self._children.append(child)
            child.serve(self._run)

    def wake_idle(self) -> None:
        """Lets children without a batch look for waiting batches at once, and not when their pause is over."""
        for child in list(self._children):
            child.wake()

    def _idle(self) -> None:
        self.on_idle()

    @property
    def alive(self) -> int:
        return len(self._children)

    @property
    def prefix(self) -> str:
        """Returns what the names of this parent's workers begin with."""
        return prefix()

    def check_children(self) -> None:
        """Does one round: releases dead children, ends silent ones, starts missing ones.

        Raises DefinitionInvalid where the migrations cannot be loaded, SettingsInvalid where anything else makes restarting hopeless.
        """
        with self._lock:
            self._check_children()

    def _check_children(self) -> None:
        for child in list(self._children):
            if child.process.poll() is not None:
                self._remove_dead_child(child)
            elif not child.loaded:
                self._check_loading(child)
            elif time.monotonic() - child.heard > self._silence:
                log.error("a worker gives no sign of life and is ended", worker=child.name)
                child.process.kill()
            elif self.memory is not None:
                self._check_memory(child, self.memory)
        if self._fatal_error and not self._draining.is_set():
            raise self._fatal_error
        while (
            len(self._children) < self._size and not self._draining.is_set() and time.monotonic() >= self._due
        ):
            child = self._start()
            child.serve(self._run)
            self._children.append(child)
        self._release_dead_children()  # last: a ledger that does not answer delays neither the end nor the next child

    def _check_memory(self, child: ChildProcess, limit: MemoryLimit) -> None:
        """Lets a child that holds more than it may give its batches back after their chunks; a child that holds much more, at once.

        Its batches then continue in another child, at the end document by document (hole H10): a document that needs so much alone fails.
        """
        size, limit = memory_of(child.process.pid), limit.above(child.base)
        if size <= limit.ends or self._draining.is_set():
            return
        facts = {"worker": child.name, "holds": shown(size), "may_hold": shown(limit.ends)}
        if child.base > limit.ends:
            self._fatal_error = SettingsInvalid(
                f"A worker process holds {shown(child.base)} as soon as it has loaded the migrations, and may hold {shown(limit.ends)}: "
                "raise --max-memory."
            )
        elif size > limit.killed:
            self._count_replaced(child)
            log.error(
                "a worker holds far too much memory: it is ended, and another goes on",
                replaced=self.replaced,
                **facts,
            )
            child.process.kill()
        elif not child.leaving:
            self._count_replaced(child)
            log.warning(
                "a worker holds too much memory: it ends after its chunk, and another goes on",
                replaced=self.replaced,
                **facts,
            )
            child.drain()

    def _count_replaced(self, child: ChildProcess) -> None:
        """Counts a child as replaced, once."""
        self.replaced += not child.leaving
        child.leaving = True

    def _check_loading(self, child: ChildProcess) -> None:
        """Watches a child that loads the migrations: its imports may take long, but must end."""
        now = time.monotonic()
        if now - child.started > self.loading:
            self._fatal_error = DefinitionInvalid(
                f"A worker process did not finish loading the migrations within {self.loading:g} seconds. A migration's module "
                "should only define things; where its imports do take longer, raise WHIMBREL_LOADING."
            )
            child.process.kill()
        elif now - child.reported > SLOW and self._leases is not None and not self._draining.is_set():
            child.reported = now
            self._leases.beat(
                child.name, host=socket.gethostname(), pid=child.process.pid, version=version("whimbrel"), slots=0,
                only=self._run, code=[], done=0, inHand=[], refuses=[], loading=True,
            )  # fmt: skip

    def _start(self) -> ChildProcess:
        child = start_child(
            self._environment, slots=self._slots, lanes=self._lanes, stderr=self._stderr, sink=self._sink
        )
        child.on_idle = self._idle
        return child

    def _remove_dead_child(self, child: ChildProcess) -> None:
        code = child.process.returncode or 0
        self._children.remove(child)
        self._unreleased.append(child.name)
        child.close()
        self._check_fatal_exit(child, code)
        if code and not self._draining.is_set():
            log.warning("a worker died", worker=child.name, code=code)
        young = time.monotonic() - child.started < 1 or not child.loaded
        self._pause = min(self._pause * 2, 5.0) if young else 0.1
        self._due = time.monotonic() + (self._pause if young else 0)

    def _release_dead_children(self) -> None:
        """Releases what dead children held at once: there is no need to wait for their leases to end.

        Raises Transient where the ledger does not answer: the next call tries again. While draining there is no time left for
        that: the leases will end by themselves.
        """
        try:
            while self._unreleased and not self._unreachable:
                worker = self._unreleased[0]
                self.on_released(self._batches.take_over(worker=worker))
                if self._leases is not None:
                    self._leases.leave(worker)
                self._unreleased.popleft()
        except Transient as error:
            log.warning("the ledger does not answer; a dead worker's batches wait", error=str(error))
            if not self._draining.is_set():
                raise
            self._unreachable = True

    def _check_fatal_exit(self, child: ChildProcess, code: int) -> None:
        """Finds out whether the next child would end as this one did."""
        if self._fatal_error is not None:
            return
        if code in HOPELESS:
            kind = DefinitionInvalid if code == DefinitionInvalid.exit_code else SettingsInvalid
            why = (
                f": {child.reason}" if child.reason else f" (exit code {code}); what they said stands above."
            )
            self._fatal_error = kind(f"The workers cannot start{why}")
        elif child.loaded:
            self._unloaded = 0
        elif not self._draining.is_set():
            self._unloaded += 1
            if self._unloaded >= LOADS:
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                self._fatal_error = DefinitionInvalid(
                    f"{LOADS} worker processes in a row have ended {how} while they loaded the migrations. What they printed stands above."
                )

    def drain(self, seconds: float) -> bool:
        """Lets every child finish its chunks and give its batches back. Returns False where some had to be killed."""
        self._draining.set()
        for child in list(self._children):  # at once, whatever the checking thread waits for
            child.drain()
        end = time.monotonic() + seconds
        while self._children and time.monotonic() < end:
            self.check_children()
            time.sleep(0.02)
        return not self.kill()

    def leave(self, seconds: float, at_once: Callable[[], bool]) -> None:
        """Drains; but kills as soon as `at_once` says so, whatever draining waits for."""
        draining = threading.Thread(target=self.drain, args=(seconds,), name="draining", daemon=True)
        draining.start()
        while draining.is_alive():
            if at_once():
                self.kill()
            draining.join(POLL_SECONDS)

    def kill(self) -> int:
        """Ends every child now, and releases what it held; its statements in the server end too (hole H13)."""
        self._draining.set()
        for child in list(self._children):  # at once, whatever the checking thread waits for
            child.process.send_signal(signal.SIGKILL)
        with self._lock:
            killed = list(self._children)
            for child in killed:
                child.process.kill()
                child.process.wait()
                self._remove_dead_child(child)
            self._release_dead_children()
        return len(killed)
