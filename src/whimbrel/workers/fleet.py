"""The parent's side: starts children, restarts those that die, releases what they held, drains them at the end."""

import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

import structlog

from whimbrel.domain.batches import Batch
from whimbrel.errors import SettingsInvalid, Transient
from whimbrel.ports import Batches, Leases

log = structlog.get_logger("whimbrel.workers")

HOPELESS = frozenset(
    {64, 65, 71, 74}
)  # exit codes of a child that would fail again: settings, definitions, permissions, the broker refuses
LOOK = 0.1  # seconds between two looks whether draining shall end at once
SILENCE = 30.0  # seconds without a sign of life, beyond a function's own time limit


@dataclass(slots=True)
class Child:
    """One worker process."""

    name: str
    process: subprocess.Popen[bytes]
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)


class Fleet:
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
        self._leases = (
            leases  # where the dead are signed off; without it they count as alive for some seconds
        )
        self._size, self._slots, self._run, self._lanes = size, slots, run, lanes
        self.on_released: Callable[[Sequence[Batch]], None] = lambda _batches: None
        self._stderr = stderr  # where children write their logs; None is where this process writes its own
        self._lock = threading.RLock()  # a parent's thread tends while its main thread drains or kills
        self._silence = longest_call + SILENCE
        self._children: list[Child] = []
        self._hopeless: str | None = None
        self._draining = threading.Event()
        self._unreachable = False
        self._due = 0.0  # when the next child may be started
        self._pause = 0.1

    @property
    def alive(self) -> int:
        return len(self._children)

    @property
    def prefix(self) -> str:
        """What the names of this parent's workers begin with."""
        return f"{socket.gethostname()}:{os.getpid()}:"

    def tend(self) -> None:
        """One round: hear the children, bury the dead, start what is missing. Raises SettingsInvalid where that is hopeless."""
        with self._lock:
            self._tend()

    def _tend(self) -> None:
        self._listen()
        for child in list(self._children):
            if child.process.poll() is not None:
                self._bury(child)
            elif time.monotonic() - child.heard > self._silence:
                log.error("a worker gives no sign of life and is ended", worker=child.name)
                child.process.kill()
        if self._hopeless and not self._draining.is_set():
            raise SettingsInvalid(self._hopeless)
        while (
            len(self._children) < self._size and not self._draining.is_set() and time.monotonic() >= self._due
        ):
            self._children.append(self._start())

    def _start(self) -> Child:
        name = f"{self.prefix}{secrets.token_hex(4)}"
        command = [
            sys.executable,
            "-m",
            "whimbrel.workers.child",
            "--name",
            name,
            "--slots",
            str(self._slots),
        ]
        if self._run:
            command += ["--run", self._run]
        if self._lanes:
            command += ["--lanes", ",".join(self._lanes)]
        process = subprocess.Popen(  # noqa: S603
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            env=self._environment,
        )
        os.set_blocking(_out(process).fileno(), False)
        return Child(name, process)

    def _bury(self, child: Child) -> None:
        """The kernel says that it is dead: no need to wait for its leases to end."""
        code = child.process.returncode
        try:
            if not self._unreachable:
                self.on_released(self._batches.take_over(worker=child.name))
                if self._leases is not None:
                    self._leases.leave(child.name)
        except Transient as error:
            log.warning("the ledger does not answer; a dead worker's batches wait", error=str(error))
            if not self._draining.is_set():
                raise
            self._unreachable = (
                True  # no time left: the leases of what our children held will end by themselves
            )
        self._children.remove(child)
        for pipe in (child.process.stdin, child.process.stdout):
            if pipe is not None:
                pipe.close()
        if code in HOPELESS:
            self._hopeless = f"The workers cannot start (exit code {code}); what they said stands above."
        if code and not self._draining.is_set():
            log.warning("a worker died", worker=child.name, code=code)
        young = time.monotonic() - child.started < 1
        self._pause = min(self._pause * 2, 5.0) if young else 0.1
        self._due = time.monotonic() + (self._pause if young else 0)

    def _listen(self) -> None:
        with selectors.DefaultSelector() as selector:
            for child in self._children:
                selector.register(_out(child.process), selectors.EVENT_READ, child)
            for key, _ in selector.select(0) if self._children else []:
                if os.read(key.fd, 65536):
                    key.data.heard = time.monotonic()

    def drain(self, seconds: float) -> bool:
        """Let every child finish its chunks and give its batches back. False where some had to be killed."""
        self._draining.set()
        for child in list(self._children):  # at once, whatever the thread that tends is waiting for
            if child.process.stdin is not None:
                child.process.stdin.close()
        end = time.monotonic() + seconds
        while self._children and time.monotonic() < end:
            self.tend()
            time.sleep(0.02)
        return not self.kill()

    def leave(self, seconds: float, at_once: Callable[[], bool]) -> None:
        """Drain; but kill as soon as `at_once` says so, whatever draining waits for."""
        draining = threading.Thread(target=self.drain, args=(seconds,), name="draining", daemon=True)
        draining.start()
        while draining.is_alive():
            if at_once():
                self.kill()
            draining.join(LOOK)

    def kill(self) -> int:
        """End every child now, and release what it held; their statements in the server too (hole H13)."""
        self._draining.set()
        for child in list(self._children):  # at once, whatever the thread that tends is waiting for
            child.process.send_signal(signal.SIGKILL)
        with self._lock:
            killed = list(self._children)
            for child in killed:
                child.process.kill()
                child.process.wait()
                self._bury(child)
        return len(killed)


def _out(process: subprocess.Popen[bytes]) -> IO[bytes]:
    if process.stdout is None:
        raise RuntimeError("a child is started with a pipe")
    return process.stdout
