"""Finds, starts, awaits and stops the mongod process of a folder."""

import logging
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final, TypeVar

import psutil
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from whimbrel.errors import EmbeddedUnavailable
from whimbrel.mongo.embedded.binary import usable_mongod
from whimbrel.mongo.embedded.failures import Contended, failure
from whimbrel.mongo.embedded.folder import Folder, State
from whimbrel.mongo.embedded.private import opened
from whimbrel.mongo.embedded.replica_set import NAME, Unproven, advance, connect

T = TypeVar("T")

STOP_SECONDS: Final = 30.0
_KILL_SECONDS: Final = 10.0
_ATTEMPTS: Final = 5
_OPLOG_MB: Final = 1024
_POLL: Final = 0.01
_ITERATIONS: Final = 5000  # the minimum: they slow down guessing, which is hopeless with 256 bits anyway

# Any program may listen on the port, and answer anything.
_WRONG_ANSWERS: Final = (PyMongoError, BSONError, ValueError, LookupError, TypeError)

_log = logging.getLogger(__name__)


class _Child(subprocess.Popen[bytes]):
    """A mongod that we started. It may outlive us, which needs no warning."""

    def __del__(self) -> None:
        """Avoids Popen's warning that it still runs."""


_children: list[_Child] = []


@dataclass(frozen=True, slots=True)
class Server:
    process: psutil.Process
    port: int

    def alive(self) -> bool:
        if _running(self.process):
            return True
        _reap()
        return False

    def gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True


def uninterrupted(act: Callable[[], T]) -> T:
    """Runs `act` in a thread, so that a signal's exception in the main thread comes before it or after it."""
    started, ended = threading.Lock(), threading.Event()
    results: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        if started.acquire(blocking=False):
            try:
                results.append(act())
            except BaseException as error:  # noqa: BLE001  raised below
                raised.append(error)
            finally:
                ended.set()

    try:
        threading.Thread(target=run, name="whole").start()
        ended.wait()
    except BaseException:
        if not started.acquire(blocking=False):
            ended.wait()
        raise
    if raised:
        raise raised[0]
    return results[0]


def obtain(folder: Folder, cache_gb: float, seconds: float, no_other_user: Callable[[], bool]) -> Server:
    """Returns the folder's ready server: the running one, else a new one. Only the holder of `starting` may call it.

    `no_other_user`: whether no other process uses it; then a server that does not know the secret of the home, as those of earlier
    versions, is restarted.
    """
    deadline = time.monotonic() + seconds
    for attempt in range(1, _ATTEMPTS + 1):
        server = find(folder)
        try:
            if server and _must_be_replaced(folder, server):
                stop(folder, server)
            elif server and _ready(folder, server, deadline):
                folder.remember(State(server.process.pid, server.port))
                return server
        except Unproven as error:
            if not no_other_user():
                raise EmbeddedUnavailable(
                    f"The embedded MongoDB in {folder.root} (process {server.process.pid if server else 0}) does not know the secret in "
                    f"{folder.keyfile}: an earlier version of Whimbrel started it, or that file was changed. End the commands that use it, "
                    "then try again."
                ) from error
            if server:
                stop(folder, server)
        try:
            return _start(folder, cache_gb, deadline, anew=attempt > 1)
        except Contended:
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError  # the loop returns or raises


def find(folder: Folder) -> Server | None:
    """Returns this user's process that has the folder's data in its command line. The login shows whether it is genuine."""
    _reap()
    for process in chain(_process(folder.state().pid), psutil.process_iter()):
        with suppress(psutil.Error, OSError):
            if not _ours(process):
                continue
            arguments = process.cmdline()
            if _option(arguments, "--dbpath") != str(folder.data) or not _running(process):
                continue
            port = _option(arguments, "--port")
            if _option(arguments, "--replSet") == NAME and port.isdecimal():
                return Server(process, int(port))
            raise EmbeddedUnavailable(
                f"A mongod that Whimbrel did not start (process {process.pid}) has {folder.data} open: stop it, or choose another home."
            )
    return None


def stop(folder: Folder, server: Server) -> None:
    pid = server.process.pid
    with suppress(OSError):  # a full disk must not keep the server running
        folder.remember(State(pid, server.port, stopping=True))
    try:
        server.process.terminate()
        if not server.gone_within(STOP_SECONDS):
            _log.warning("mongod (process %d) did not stop within %.0f s and is killed.", pid, STOP_SECONDS)
            server.process.kill()
            server.gone_within(_KILL_SECONDS)
    except psutil.NoSuchProcess:
        pass
    except psutil.AccessDenied:
        _log.warning("mongod (process %d) belongs to another user and goes on running.", pid)


def _start(folder: Folder, cache_gb: float, deadline: float, *, anew: bool) -> Server:
    binary = usable_mongod()
    folder.make_room()
    _wait_for_dying_server(folder)
    port = folder.state().port
    if anew or not _free(port):  # else the same port as last time, which older clients use
        port = _free_port()
    folder.secret()  # for the keyfile
    arguments = [
        *(str(binary), "--dbpath", str(folder.data), "--replSet", NAME),
        *("--bind_ip", "127.0.0.1", "--port", str(port), "--nounixsocket"),
        *("--keyFile", str(folder.keyfile), "--setParameter", "enableLocalhostAuthBypass=false"),
        *("--setParameter", f"scramSHA256IterationCount={_ITERATIONS}"),
        *("--logpath", str(folder.log), "--logappend", "--quiet", "--slowms", "2000"),
        *("--wiredTigerCacheSizeGB", f"{cache_gb:g}", "--oplogSize", str(_OPLOG_MB)),
        *("--setParameter", "diagnosticDataCollectionEnabled=false"),
    ]
    child, written = uninterrupted(lambda: _spawn(folder, arguments))
    with suppress(psutil.NoSuchProcess):
        server = Server(psutil.Process(child.pid), port)
        folder.remember(State(child.pid, port))
        if _ready(folder, server, deadline, own=True):
            return server
    raise failure(folder.log, written, folder.data, child.wait())


def _spawn(folder: Folder, arguments: Sequence[str]) -> tuple[_Child, int]:
    """Returns the process, and the offset in the log where its output begins."""
    with opened(folder.log, "ab") as log:
        written = log.tell()
        child = _Child(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder.root,
            start_new_session=True,  # a Ctrl-C in our terminal must not reach it
        )
    _children.append(child)
    return child, written


def _must_be_replaced(folder: Folder, server: Server) -> bool:
    """Whether stopping it was interrupted, or its data folder was deleted."""
    interrupted = folder.state() == State(server.process.pid, server.port, stopping=True)
    return interrupted or not (folder.data / "mongod.lock").exists()


def _wait_for_dying_server(folder: Folder) -> None:
    """Waits for a dying server, which has no command line any more, but still the files and the port."""
    for process in _process(folder.state().pid):
        with suppress(psutil.AccessDenied):
            try:
                dying = _ours(process) and not process.cmdline()
            except psutil.NoSuchProcess:  # a zombie too
                dying = True
            if dying:
                Server(process, 0).gone_within(_KILL_SECONDS)


def _ready(folder: Folder, server: Server, deadline: float, *, own: bool = False) -> bool:
    """Waits until the server takes writes, or is gone (False). `own`: we started it, so it has the secret.

    Raises Unproven.
    """
    pauses, secret = _pauses(), folder.secret()
    obstacle = "it does not listen"
    while server.alive():
        if _listening(server.port):
            obstacle = "it does not become primary"
            with connect(server.port, secret) as client:
                try:
                    while not advance(client, server.port, folder.data, secret):
                        _check_deadline(deadline, folder, server, obstacle)
                        time.sleep(next(pauses))
                except Unproven:
                    if not own:
                        raise
                    obstacle = f"another process answers on port {server.port}"
                except _WRONG_ANSWERS as error:
                    obstacle = str(error)
                else:
                    return True
        _check_deadline(deadline, folder, server, obstacle)
        time.sleep(next(pauses))
    return False


def _check_deadline(deadline: float, folder: Folder, server: Server, obstacle: str) -> None:
    if time.monotonic() > deadline:
        raise EmbeddedUnavailable(
            f"The embedded MongoDB (process {server.process.pid}) was not ready in time ({obstacle}): see {folder.log}, then try again."
        )


def _pauses() -> Iterator[float]:
    """Yields short pauses first, as a start takes half a second; then longer ones."""
    return chain(repeat(_POLL, 200), repeat(0.25))


def _ours(process: psutil.Process) -> bool:
    """Whether all its user ids are ours: the command line of another user's program proves nothing."""
    return set(process.uids()) == {os.geteuid()}


def _running(process: psutil.Process) -> bool:
    """Whether it runs. A zombie does not, unless it has threads left, which still hold the files and the port."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and (
            process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1
        )
    return False


def _reap() -> None:
    """Collects the exit codes of our children, so that none stays a zombie."""
    _children[:] = [child for child in _children if child.poll() is None]


def _process(pid: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [psutil.Process(pid)] if pid else []
    return []


def _option(arguments: Sequence[str], name: str) -> str:
    with suppress(ValueError, IndexError):
        return arguments[arguments.index(name) + 1]
    return ""


def _listening(port: int) -> bool:
    """Whether a process listens. Checked before creating a client, which would wait half a second after a refusal."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as mongod does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return port != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
