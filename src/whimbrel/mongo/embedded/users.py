"""Starts the embedded MongoDB for its first user, and stops it after the last."""

import atexit
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from whimbrel.errors import EMBEDDED_FULL, EmbeddedUnavailable
from whimbrel.mongo.embedded.binary import find_mongod
from whimbrel.mongo.embedded.folder import Folder, Lock
from whimbrel.mongo.embedded.replica_set import address
from whimbrel.mongo.embedded.server import STOP_SECONDS, find, obtain, stop, uninterrupted

_CACHE_GB: Final = 0.5
_START_SECONDS: Final = 60.0

_leaving: set[Callable[[], None]] = set()

_log = logging.getLogger(__name__)


@contextmanager
def embedded(
    home: Path, *, create: bool = True, cache_gb: float = _CACHE_GB, start_seconds: float = _START_SECONDS
) -> Iterator[str]:
    """Yields the URI, secret included, of the MongoDB of `home`, which runs at least as long as this context.

    Raises EmbeddedMissing where there is none yet and `create` is false.
    """
    with _explained(home):
        folder = Folder.at(home, create=create)
        leave, uri = _join(folder, cache_gb, start_seconds)
    try:
        yield uri
    finally:
        uninterrupted(leave)
        _leaving.discard(leave)


def exists(home: Path) -> bool:
    """Whether there is a MongoDB in `home` already."""
    return Folder(home).filled


@atexit.register
def leave_all() -> None:
    """Leaves what an exception kept from leaving."""
    for leave in list(_leaving):
        leave()


def left_running(
    home: Path, *, create: bool, cache_gb: float = _CACHE_GB, start_seconds: float = _START_SECONDS
) -> str:
    """Returns the URI of the MongoDB of `home`, which runs on without a user, until its next user has left.

    Raises EmbeddedMissing as `embedded` does.
    """
    with _explained(home):
        folder = Folder.at(home, create=create)
        with folder.starting(_patience(start_seconds)):
            users = Lock(folder.root / "users")
            try:
                users.shared(STOP_SECONDS)
                return _running_address(folder, cache_gb, start_seconds, partial(_alone, users))
            except BaseException:
                _give_up(folder, users)
                raise
            finally:
                users.close()


def ensure_running(home: Path, *, cache_gb: float = _CACHE_GB, start_seconds: float = _START_SECONDS) -> str:
    """Returns the URI again, after a restart if the server is gone. For a process inside `embedded(home)`."""
    with _explained(home):
        folder = Folder.at(home)
        with folder.starting(_patience(start_seconds)):
            return _running_address(folder, cache_gb, start_seconds, lambda: False)


def _running_address(
    folder: Folder, cache_gb: float, seconds: float, no_other_user: Callable[[], bool]
) -> str:
    server = obtain(folder, cache_gb, seconds, no_other_user)
    return address(server.port, folder.secret())


def _join(folder: Folder, cache_gb: float, seconds: float) -> tuple[Callable[[], None], str]:
    """Returns the function that leaves, and the URI. An interpreter that ends leaves too, wherever an exception interrupted it."""
    with folder.starting(_patience(seconds)):
        users = Lock(folder.root / "users")
        try:
            users.shared(STOP_SECONDS)
            uri = _running_address(folder, cache_gb, seconds, partial(_alone, users))
            leave = partial(_leave, folder, users, os.getpid())
            _leaving.add(leave)
        except BaseException:
            _give_up(folder, users)
            raise
        return leave, uri


def _alone(users: Lock) -> bool:
    """Whether there is no other user. The caller holds `starting`, so no process joins while the own share is given up and taken again."""
    last = users.is_last()
    users.shared(STOP_SECONDS)
    return last


def _leave(folder: Folder, users: Lock, owner: int) -> None:
    """Leaves, and stops the server after its last user. Does not raise where it goes on running: the next user will adopt it."""
    if users.closed or os.getpid() != owner:  # a forked child, whose copy of the lock is its parent's
        return
    try:
        with folder.starting(_patience(_START_SECONDS)):
            _give_up(folder, users)
    except (EmbeddedUnavailable, OSError) as error:
        _log.warning("The embedded MongoDB of %s may still run: %s", folder.root, error)
    finally:
        users.close()


def _give_up(folder: Folder, users: Lock) -> None:
    """Stops the server after its last user. The caller holds `starting`, so that no process joins meanwhile."""
    try:
        if users.is_last() and (server := find(folder)):
            stop(folder, server)
    except EmbeddedUnavailable as error:
        _log.warning("The embedded MongoDB of %s is not stopped: %s", folder.root, error)
    finally:
        users.close()


def _patience(start_seconds: float) -> float:
    """Returns seconds that exceed what another process may need for a start or a stop."""
    return start_seconds + STOP_SECONDS + 15


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    if sys.platform == "win32":
        raise EmbeddedUnavailable(
            "The embedded MongoDB works on Linux and macOS: set MONGODB_URI to a running replica set."
        )
    if os.environ.get("WHIMBREL_MONGOD"):
        find_mongod()  # reports a wrong setting before anything else
    try:
        yield
    except OSError as error:
        raise EmbeddedUnavailable(
            f"The embedded MongoDB cannot use {error.filename or home} ({error.strerror or error}): make it writable, or choose another home."
        ).in_short(EMBEDDED_FULL if error.errno == errno.ENOSPC else "") from error
