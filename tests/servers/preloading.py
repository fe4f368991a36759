"""The process whose copies are the processes of `tests.servers.preloaded`: `python -m tests.servers.preloading SOCKET`.

It has one thread, knows no server and reads no setting, so a copy of it is as clean as a fresh interpreter. It is also the parent of all
copies, where a fresh interpreter would be a child of the process that starts it: `preloaded.workers_of` finds those of a process.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib.util
import io
import json
import os
import pkgutil
import select
import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from setproctitle import setproctitle

from whimbrel import logs

_FILES = 64  # most that are sent at a time
_OUT_OF_THE_WAY = 500  # file numbers that no process of a test has asked for


def send(to: socket.socket, said: Any, files: Sequence[int] = ()) -> None:
    text = json.dumps(said).encode()
    socket.send_fds(to, [struct.pack("!I", len(text))], list(files))
    to.sendall(text)


def receive(of: socket.socket) -> tuple[Any, list[int]]:
    """What was sent, and the files; None at the end, also where somebody was killed in the middle of a question or its answer."""
    files: list[int] = []
    try:
        head, files, _, _ = socket.recv_fds(of, 4, _FILES)
        head += _read(of, 4 - len(head))
        return json.loads(_read(of, *struct.unpack("!I", head))), files
    except (EOFError, ConnectionResetError):
        for each in files:
            os.close(each)
        return None, []


def _read(of: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        part = of.recv(size - len(found))
        if not part:
            raise EOFError
        found += part
    return bytes(found)


def main() -> None:
    signal.signal(signal.SIGINT, lambda *_: None)  # it ends with the tests
    _import_everything()
    gc.collect()
    gc.freeze()
    Template(socket.socket(fileno=int(sys.argv[1]))).serve()


class Template:
    """Answers the tests' process, and the copies themselves, which start worker processes."""

    def __init__(self, tests: socket.socket) -> None:
        self._tests = tests
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind("")  # the kernel finds a name that no other has, and that needs no file
        self._listener.listen(64)
        self._started: dict[socket.socket, set[int]] = {tests: set()}  # by whom, and not reaped yet
        self._orphans: set[int] = set()
        self._statuses: dict[int, int] = {}  # of orphans that have ended

    def serve(self) -> None:
        while True:
            waiting = 0.05 if self._orphans else None
            for ready in select.select([self._listener, *self._started], [], [], waiting)[0]:
                if ready is self._listener:
                    self._started[self._listener.accept()[0]] = set()
                    continue
                if not self._heed(ready) and ready is self._tests:
                    return
            for pid in list(self._orphans):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    self._orphans.remove(pid)
                    self._statuses[pid] = status

    def _heed(self, whom: socket.socket) -> bool:
        """Answers one question. Returns False at the end, and where a question cannot be read: whoever asked was stopped in the middle of it."""
        try:
            question, files = receive(whom)
        except ValueError:
            question, files = None, []
        if question is not None:
            self._answer(whom, question, files)
            return True
        self._orphans |= self._started.pop(whom)
        whom.close()
        return False

    def _answer(self, whom: socket.socket, question: Mapping[str, Any], files: Sequence[int]) -> None:
        if "reap" in question:
            pid = question["reap"]
            self._started[whom].discard(pid)
            self._orphans.discard(
                pid
            )  # it may have been started by an earlier connection of the same process
            status = self._statuses.pop(pid, None)
            answer = os.waitpid(pid, 0)[1] if status is None else status
        else:
            answer = os.fork()
            if not answer:
                preloaded.use(self._listener.getsockname())
                _become(question, files)
            self._started[whom].add(answer)
            for each in files:
                os.close(each)
        with contextlib.suppress(OSError):  # whoever asked has ended
            send(whom, answer)


def _import_everything() -> None:
    package = importlib.import_module("whimbrel")
    for module in pkgutil.walk_packages(package.__path__, "whimbrel."):
        importlib.import_module(module.name)


def _become(question: Mapping[str, Any], files: Sequence[int]) -> NoReturn:
    """What `python WORDS` is in a fresh process."""
    code = 1
    try:
        _take_files(question["numbers"], files)
        _reset(question)
        code = _run(question["words"])
    finally:
        with contextlib.suppress(BaseException):
            _finish()
        os._exit(code)


def _take_files(numbers: Sequence[int], files: Sequence[int]) -> None:
    high = [fcntl.fcntl(each, fcntl.F_DUPFD, _OUT_OF_THE_WAY) for each in files]
    os.closerange(0, _OUT_OF_THE_WAY)
    for number, each in zip(numbers, high, strict=True):
        os.dup2(each, number, inheritable=number <= 2)
    os.closerange(_OUT_OF_THE_WAY, _OUT_OF_THE_WAY + 2 * _FILES)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        before: Any = getattr(sys, name)
        through = before.write_through  # as PYTHONUNBUFFERED says
        raw = open(number, "wb" if number else "rb", buffering=0 if through else -1, closefd=False)  # noqa: SIM115
        stream = io.TextIOWrapper(
            raw, encoding=before.encoding, errors=before.errors, write_through=through,
            line_buffering=not through and (number == 2 or os.isatty(number)),
        )  # fmt: skip
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _reset(question: Mapping[str, Any]) -> None:
    if question["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.orig_argv = [sys.executable, *question["words"]]
    setproctitle(" ".join(sys.orig_argv))
    os.environ.clear()
    os.environ.update(question["environment"])
    time.tzset()
    os.chdir(question["folder"])
    # The one thing that Whimbrel reads from the environment when it is imported.
    logs._State.json_requested = os.environ.get("LOG_FORMAT") == "json"


def _run(words: Sequence[str]) -> int:
    """The exit code."""
    main_module: Any = ModuleType("__main__")
    sys.modules["__main__"] = main_module
    if words[0] == "-m":
        spec: Any = importlib.util.find_spec(words[1])
        main_module.__spec__, main_module.__package__, main_module.__file__ = spec, spec.parent, spec.origin
        code = spec.loader.get_code(words[1])
        sys.argv, sys.path[0] = [spec.origin, *words[2:]], str(Path.cwd())
    else:
        script = Path(words[0])
        main_module.__file__, sys.argv, sys.path[0] = words[0], list(words), str(script.resolve().parent)
        code = compile(script.read_bytes(), words[0], "exec")
    try:
        exec(code, main_module.__dict__)  # noqa: S102
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except KeyboardInterrupt:
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001  as an interpreter does with what nobody has caught
        traceback.print_exc()
        return 1
    return 0


def _finish() -> None:
    """Ends as an interpreter does: threads, exit handlers, unwritten output."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


if __name__ == "__main__":
    from tests.servers import preloaded

    main()
