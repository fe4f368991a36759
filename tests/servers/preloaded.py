"""Python processes that begin with all of Whimbrel imported: copies (fork) of one process that has imported it before.

`Popen` and `run` are those of `subprocess`, and so is what they start: a process with its own environment, folder, streams, signals
and exit code. Only the imports are spared, which cost more than what most commands of a test do. What a copy cannot be is started as
ever: another program than `python -m MODULE` or `python SCRIPT`, an environment that Python itself reads when it starts, a rehearsal.
"""

import atexit
import contextlib
import inspect
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import psutil

from tests.servers import preloading
from whimbrel.workers import process_start

_ROOT: Final = Path(__file__).parents[2]
_READ_BY_PYTHON: Final = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_")  # how the names of variables begin
# It calls a function in two processes to see what depends on the order of sets, which Python draws when it starts.
_FRESH: Final = ["-m", "whimbrel.workers.rehearsal"]
_POSSIBLE: Final = hasattr(os, "pidfd_open")
_execute_child: Any = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_PARAMETERS: Final = list(inspect.signature(_execute_child).parameters)[1:]


class _Template:
    """The process that is copied, as this process reaches it. The tests' own process starts it, with the first copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = 0
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None  # of the tests' own process
        self.address: bytes | None = None  # where a copy reaches it

    def ask(self, question: Mapping[str, Any], files: Sequence[int] = ()) -> Any:
        with self._lock:
            if self._owner != os.getpid():
                if self._socket is not None:
                    self._socket.detach()  # its number is another file's here
                self._socket, self._owner = self._connected(), os.getpid()
            assert self._socket is not None
            try:
                preloading.send(self._socket, question, files)
                answer, _ = preloading.receive(self._socket)
            except OSError as error:
                raise AssertionError(f"the process that is copied is gone: {self._end()}") from error
            except (
                BaseException
            ):  # Ctrl-C in the middle: what is left of the question and its answer belongs to nobody
                self._socket.close()
                self._socket = None
                self._owner = 0
                raise
            assert answer is not None, f"the process that is copied is gone: {self._end()}"
            return answer

    def _end(self) -> str:
        return f"it ended with {self._process.wait()}" if self._process else "ask the tests' own process why"

    def _connected(self) -> socket.socket:
        if self.address is None:
            self._process, found = _started()
            return found
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.address)
        return connection


def _started() -> tuple[subprocess.Popen[bytes], socket.socket]:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-m", preloading.__name__, str(theirs.fileno())],
        cwd=_ROOT,
        pass_fds=[theirs.fileno()],
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return process, ours


_template = _Template()


def use(address: bytes) -> None:
    """In a copy: the processes that it starts are copies too, from this template."""
    _template.address = address
    share_imports()


def share_imports() -> None:
    """From now on worker processes that Whimbrel starts in this process are copies, as those of a command are that has one thread yet."""
    starting = SimpleNamespace(Popen=Popen, TimeoutExpired=subprocess.TimeoutExpired)
    vars(process_start)["subprocess"] = starting


def workers_of(pid: int) -> list[psutil.Process]:
    """The worker processes that a process has started, by the names that it gives them. None that has ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie is one too
            command = " ".join(process.cmdline())
            if "worker_process" in command and f":{pid}:" in command:
                found.append(process)
    return found


class Popen(subprocess.Popen[Any]):
    """As `subprocess.Popen`."""

    _watched: int | None = None  # tells when a copy has ended

    def _execute_child(self, *arguments: Any) -> None:
        given = dict(zip(_PARAMETERS, arguments, strict=True))
        words = _copyable(given)
        if words is None:
            _execute_child(self, *arguments)
            return
        streams = [
            mine if theirs == -1 else theirs
            for mine, theirs in enumerate((given["p2cread"], given["c2pwrite"], given["errwrite"]))
        ]
        kept = [int(number) for number in given["pass_fds"]]
        question = {
            "words": words,
            "environment": dict(os.environ if given["env"] is None else given["env"]),
            "folder": os.fspath(given["cwd"] or Path.cwd()),
            "session": given["start_new_session"],
            "numbers": [0, 1, 2, *kept],
        }
        try:
            self.pid = _template.ask(question, [*streams, *kept])
            self._watched = os.pidfd_open(self.pid)
            self._child_created = True
        finally:
            given_pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            self._close_pipe_fds(*(given[name] for name in given_pipes))  # type: ignore[attr-defined]

    def _internal_poll(self, *arguments: Any, **options: Any) -> int | None:
        if self._watched is None:
            found: int | None = super()._internal_poll(*arguments, **options)  # type: ignore[misc]
            return found
        if self.returncode is None and _over(self._watched, 0):
            status = _template.ask({"reap": self.pid})
            os.close(self._watched)
            self._watched = None
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._watched is None:
            code: int = super()._wait(timeout)  # type: ignore[misc]
            return code
        if not _over(self._watched, timeout):
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        ended = self._internal_poll()
        assert ended is not None
        return ended


def _over(watched: int, timeout: float | None) -> bool:
    """Whether the process ends within these seconds."""
    waiting = select.poll()
    waiting.register(watched, select.POLLIN)
    return bool(waiting.poll(None if timeout is None else max(0.0, timeout) * 1000))


def _copyable(given: Mapping[str, Any]) -> list[str] | None:
    """What follows `python`, where a copy can stand for a fresh interpreter."""
    words = [os.fspath(word) for word in given["args"]] if not isinstance(given["args"], str) else []
    program = (words[1:2] == ["-m"] and words[1:3] != _FRESH) or (words[1:2] and words[1].endswith(".py"))
    unusual = given["preexec_fn"] or given["executable"] not in (None, sys.executable) or given["shell"]
    usual = _read_by_python(os.environ if given["env"] is None else given["env"]) == _read_by_python(
        os.environ
    )
    folder = given["cwd"] is None or Path(given["cwd"]).is_dir()
    possible = _POSSIBLE and given["uid"] is None and given["gid"] is None and given["gids"] is None
    if not (possible and program and words[0] == sys.executable and usual and folder) or unusual:
        return None
    return words[1:]


def _read_by_python(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_READ_BY_PYTHON)}


def run(
    words: Sequence[Any],
    *,
    check: bool = False,
    capture_output: bool = False,
    timeout: float | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """As `subprocess.run`, without `input`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(words, **options) as process:
        try:
            out, error = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(process.args, process.returncode, out, error)
    if check:
        done.check_returncode()
    return done
