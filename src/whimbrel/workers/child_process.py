"""One worker process, as its parent sees it: starting it, listening to it, talking to it."""

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
    input_pipe: int  # its standard input: it drains when that is closed
    pipes: tuple[int, ...]  # pipes that this process reads
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    reported: float = field(default_factory=time.monotonic)  # when the ledger was told that it loads
    loaded: bool = False
    reason: str = ""  # why it ends
    leaving: bool = False  # it is being replaced, because it held too much memory
    busy: int = 0  # batches it works on
    serving: bool = False  # it was told what to serve; until then it loads ahead, and waits
    base: int = 0  # bytes that it held after loading the migrations
    listener: ChildListener | None = None
    on_idle: Callable[[], None] = lambda: None  # called when it has ended its last batch
    _lock: threading.Lock = field(default_factory=threading.Lock)  # for its standard input
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
        """Tells it once which run to serve; None: all runs."""
        if not self.serving:
            self.heard = time.monotonic()  # it had to be silent while there was no work
            self._tell(f"{run or ''}\n")
            self.serving = True

    def wake(self) -> None:
        """Tells it, if it has no batch, that batches wait."""
        if self.serving and not self.busy:
            self._tell("\n")

    def _tell(self, text: str) -> None:
        # It has ended; or the pipe is full, so it has been told already.
        with self._lock, contextlib.suppress(OSError):
            if self._open:
                os.write(self.input_pipe, text.encode())

    def drain(self) -> None:
        """Closes its standard input, so that it drains."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self.input_pipe)

    def close(self) -> None:
        """Reads what it has said, and closes what is open to it, after it has ended."""
        self.drain()
        if self.listener is not None:
            self.listener.close()
        for pipe in self.pipes:
            os.close(pipe)


def prefix() -> str:
    """Returns what the names of this process's workers begin with."""
    return f"{socket.gethostname()}:{os.getpid()}:"


def start_child(
    environment: Mapping[str, str], *, slots: int, lanes: Sequence[str], stderr: int, sink: StandardError
) -> ChildProcess:
    """Starts a child that loads the migrations, and then waits to be told what to serve.

    `stderr`: the number of the stream that it writes its logs to. `sink`: receives what user code prints.
    """
    name = f"{prefix()}{secrets.token_hex(4)}"
    child_input, input_pipe = os.pipe()
    spoken, speaking = os.pipe()
    printed, printing = os.pipe()
    log = os.dup(stderr)
    arguments = ["--name", name, "--slots", str(slots), "--said", str(speaking), "--log", str(log)]
    if lanes:
        arguments += ["--lanes", ",".join(lanes)]
    try:
        process = start(
            "whimbrel.workers.worker_process",
            arguments,
            streams=(child_input, printing, printing),
            keep=(speaking, log),
            environment=environment,
        )
    finally:
        for number in (child_input, speaking, printing, log):
            os.close(number)
    os.set_blocking(input_pipe, False)
    child = ChildProcess(name, process, input_pipe, (spoken, printed))
    child.listener = ChildListener(f"worker {process.pid}", printed, spoken, sink, child.hear)
    return child
