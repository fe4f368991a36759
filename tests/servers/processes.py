"""Server processes that end with us, however we end; their folders; free ports."""

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from tests.servers import preloaded

# Below the ports that a kernel gives to clients: else, while a server is down, the port could go to somebody else,
# or a client that tries again and again could be given it as its own and connect to itself.
_PORTS: Final = range(20_000, 32_000)
_GONE_SECONDS: Final = 20.0
_STILL: Final = (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
# Reads what there is to end, and ends what is left of it when its input ends: with our death, by kill -9 too.
# Not PR_SET_PDEATHSIG, which ends a server already with the thread that started it.
_GUARD: Final = """
import os, shutil, signal, sys
left = {}
for line in sys.stdin:
    sign, thing = line[0], line[1:-1]
    left.update({thing: 1}) if sign == "+" else left.pop(thing, None)
for thing in left:
    try:
        shutil.rmtree(thing, ignore_errors=True) if "/" in thing else os.killpg(int(thing), signal.SIGKILL)
    except OSError:
        pass
"""


class ServerFailed(Exception):
    """A server did not start, or does not answer; the sentence holds the end of its log."""


class _Guard:
    """The process that outlives us by a moment. One for all servers; started with the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def note(self, line: str) -> None:
        """`+` or `-`, and a process group or a folder."""
        if self._process is None or self._owner != os.getpid():
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            atexit.register(self._leave)
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _leave(self) -> None:
        if self._process is not None and self._owner == os.getpid():
            for child in list(_children):
                child.kill()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None


_guard = _Guard()
_children: "set[Child]" = set()


class Child:
    """A running server, in a session of its own: a Ctrl-C in our terminal is not meant for it."""

    def __init__(
        self, arguments: Sequence[str | Path], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = preloaded.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=log.parent,
                start_new_session=True,
            )
        self.pid = self._process.pid
        self.frozen = False
        _guard.note(f"+{self.pid}")
        _children.add(self)

    def alive(self) -> bool:
        """Whether it runs; a frozen one does."""
        if self._process.poll() is None:
            return True
        self._forget()
        return False

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)
        with suppress(psutil.NoSuchProcess):
            while psutil.Process(self.pid).status() not in _STILL:  # each thread stops when it comes to it
                time.sleep(0.001)
        self.frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.frozen = False

    def kill(self) -> None:
        """SIGKILL to it and its helpers, and wait for the end."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._forget()

    def terminate(self, seconds: float = _GONE_SECONDS) -> None:
        """SIGTERM, and SIGKILL if it is not gone in that time."""
        if self.frozen:
            self.thaw()
        self._signal(signal.SIGTERM)
        self.gone(seconds)

    def gone(self, seconds: float = _GONE_SECONDS) -> None:
        """Waits for its own end, else kills it."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget()

    def tell(self, number: signal.Signals) -> None:
        """A signal to it and its helpers, without a wait."""
        self._signal(number)

    def code(self, seconds: float = _GONE_SECONDS) -> int:
        """Its exit code, when it has ended by itself. Raises subprocess.TimeoutExpired, and kills it first."""
        try:
            found = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._forget()
        return found

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        with suppress(OSError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _signal(self, number: signal.Signals) -> None:
        if self.alive():  # not reaped before, so the number is still its own
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _forget(self) -> None:
        if self in _children:
            _children.discard(self)
            _guard.note(f"-{self.pid}")


class Started(ABC):
    """A context manager of what is started and closed: also where starting fails half-way."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_folder() -> Path:
    """A temporary folder, which `remove_folder` removes, else our end."""
    found = Path(tempfile.mkdtemp(prefix="whimbrel_"))
    _guard.note(f"+{found}")
    return found


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _guard.note(f"-{folder}")


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 on which nobody listens now."""
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            probe.bind(("127.0.0.1", port))
            found.append(port)
    return found


def listening(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def pause(deadline: float, failure: str) -> None:
    """A short sleep in a loop that waits. Raises ServerFailed after the deadline, of time.monotonic()."""
    if time.monotonic() > deadline:
        raise ServerFailed(failure)
    time.sleep(0.02)
