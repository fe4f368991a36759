"""One worker process, as its parent has it: started, heard, told."""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from whimbrel.workers.child_pipes import BEGINS, ENDS, LOADED, REASON, ChildListener, StandardError
from whimbrel.workers.memory_limit import memory_of
from whimbrel.workers.process_start import StartedProcess, start


@dataclass(slots=True)
class ChildProcess:
    """One worker process."""

    name: str
    process: StartedProcess
    given: int  # the pipe that is its standard input: it drains when that is closed
    pipes: tuple[int, ...]  # that this process reads
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)  # when the ledger was told that it loads
    loaded: bool = False
    reason: str = ""  # why it ends
    leaving: bool = False  # it has held too much memory
    busy: int = 0  # batches in hand
    serving: bool = False  # it was told what to serve; until then it has loaded ahead, and waits
    base: int = 0  # bytes that it held when it had loaded the migrations
    ear: ChildListener | None = None
    on_idle: Callable[[], None] = lambda: None  # it has ended the last batch that it had in hand
    _lock: threading.Lock = field(default_factory=threading.Lock)  # around its standard input
    _open: bool = True

    def hear(self, word: str) -> None:
        self.heard = time.monotonic()
        self.busy += (word[:1] == BEGINS) - (word[:1] == ENDS)
        if word == LOADED:
            self.loaded, self.base = True, memory_of(self.process.pid)
        if word.startswith(REASON):
            self.reason = word.removeprefix(REASON)
        if word.startswith(ENDS) and not self.busy:
            self.on_idle()

    def serve(self, run: str | None) -> None:
        """Tell it once which run to serve; None: all runs."""
        if not self.serving:
            self.heard = time.monotonic()  # it was silent while there was no work
            self._tell(f"{run or ''}\n")
            self.serving = True

    def look(self) -> None:
        """Tell it, if it has nothing in hand, that batches wait."""
        if self.serving and not self.busy:
            self._tell("\n")

    def _tell(self, text: str) -> None:
        with (
            self._lock,
            contextlib.suppress(OSError),
        ):  # it has ended; or the pipe is full, and it has been told
            if self._open:
                os.write(self.given, text.encode())

    def hang_up(self) -> None:
        """It drains."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self.given)

    def close(self) -> None:
        """It has ended: take what it has said, and close what is open to it."""
        self.hang_up()
        if self.ear is not None:
            self.ear.close()
        for pipe in self.pipes:
            os.close(pipe)


def prefix() -> str:
    """What the names of this process's workers begin with."""
    return f"{socket.gethostname()}:{os.getpid()}:"


def start_child(
    environment: Mapping[str, str], *, slots: int, lanes: Sequence[str], stderr: int, sink: StandardError
) -> ChildProcess:
    """A child that loads the migrations, and then waits to be told what to serve.

    `stderr`: the number of the stream that it writes its logs to. `sink`: where goes what user code prints.
    """
    name = f"{prefix()}{secrets.token_hex(4)}"
    taken, given = os.pipe()
    said, saying = os.pipe()
    printed, printing = os.pipe()
    log = os.dup(stderr)
    arguments = ["--name", name, "--slots", str(slots), "--said", str(saying), "--log", str(log)]
    if lanes:
        arguments += ["--lanes", ",".join(lanes)]
    try:
        process = start(
            "whimbrel.workers.worker_process",
            arguments,
            streams=(taken, printing, printing),
            keep=(saying, log),
            environment=environment,
        )
    finally:
        for number in (taken, saying, printing, log):
            os.close(number)
    os.set_blocking(given, False)
    child = ChildProcess(name, process, given, (said, printed))
    child.ear = ChildListener(f"worker {process.pid}", printed, said, sink, child.hear)
    return child
