"""Starts the processes that hold user code.

A fresh interpreter needs a third of a second to import what this process has imported already. As long as this process has one
thread, a copy of it (fork) is as clean, and ready at once. Later, and where there is no safe fork, a fresh interpreter is started.
"""

import atexit
import contextlib
import importlib
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import structlog
from setproctitle import setproctitle

TASKS = Path("/proc/self/task")  # a folder for each thread of this process, also those unknown to Python
FILES = Path("/proc/self/fd")
SHORTEST, LONGEST = 0.001, 0.05  # seconds between two checks whether a copy has ended


class StartedProcess(Protocol):
    """A child process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None: ...


class ForkedProcess:
    """A copy of this process. See `StartedProcess`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lock = threading.Lock()  # no signal may go to a number that was given to another process

    def poll(self) -> int | None:
        with self._lock:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        pause = SHORTEST
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired([], timeout or 0.0)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST)
        return code

    def send_signal(self, sig: int) -> None:
        with self._lock:
            if self.returncode is None:
                os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    module: str,
    arguments: Sequence[str],
    *,
    streams: tuple[int, int, int],
    keep: Collection[int] = (),
    environment: Mapping[str, str] | None = None,
) -> StartedProcess:
    """Starts `python -m MODULE ARGUMENTS` in a session of its own: Ctrl-C in the terminal reaches only this process.

    `streams`: the numbers of its standard streams. `keep`: other numbers that stay open in it.
    """
    environment = dict(os.environ) if environment is None else environment
    if _copyable():
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # otherwise the copy would write it once more
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        # A signal that arrives now would find the copy with our handlers: it waits until they are gone.
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            return ForkedProcess(pid)
        _run_copy(module, arguments, streams, keep, environment, blocked)
    input_, output, errors = streams
    return subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", module, *arguments],
        stdin=input_,
        stdout=output,
        stderr=errors,
        pass_fds=tuple(keep),
        start_new_session=True,
        env=environment,
    )


def _copyable() -> bool:
    """Whether this process can be forked: on systems other than Linux, libraries may not survive that."""
    if sys.platform != "linux":
        return False
    try:
        return len(list(TASKS.iterdir())) == 1
    except OSError:
        return False


def _run_copy(
    module: str,
    arguments: Sequence[str],
    streams: tuple[int, int, int],
    keep: Collection[int],
    environment: Mapping[str, str],
    blocked: Collection[int],
) -> NoReturn:
    """Behaves in the copy as a fresh interpreter would, and never returns into what this process was doing."""
    code = 1
    # Handlers are called in reverse order: behind this one would come those of this process.
    atexit.register(lambda: os._exit(code))
    try:
        _reset(streams, keep)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        sys.orig_argv = [sys.executable, "-m", module, *arguments]
        setproctitle(" ".join(sys.orig_argv))  # for people who look for workers in the list of processes
        os.environ.clear()  # after setproctitle, which finds its place by the environment
        os.environ.update(environment)
        program = importlib.import_module(module)
        sys.argv = [program.__file__ or module, *arguments]
        if not sys.flags.safe_path:
            sys.path[0:1] = [str(Path.cwd())]
        program.main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001  as an interpreter does with an uncaught exception
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            _finish()
        os._exit(code)


def _reset(streams: tuple[int, int, int], keep: Collection[int]) -> None:
    os.setsid()
    for signal_number in signal.valid_signals():
        if callable(signal.getsignal(signal_number)):  # an ignored signal stays ignored, as under nohup
            signal.signal(
                signal_number,
                signal.default_int_handler if signal_number == signal.SIGINT else signal.SIG_DFL,
            )
    for number, stream in enumerate([os.dup(inherited) for inherited in streams]):
        os.dup2(stream, number)
    for number in {int(entry.name) for entry in FILES.iterdir()} - {0, 1, 2, *keep}:
        with contextlib.suppress(OSError):  # the number of the listing itself
            os.close(number)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    )
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__
    random.seed()
    logging.getLogger().handlers.clear()
    structlog.reset_defaults()


def _finish() -> None:
    """Ends as an interpreter does: threads, exit handlers, unwritten output."""
    for thread in threading.enumerate():
        if not thread.daemon and thread is not threading.current_thread():
            thread.join()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    atexit._run_exitfuncs()  # noqa: SLF001  multiprocessing does the same in its copies
