"""Who uses the embedded MongoDB, and so whether it runs."""

import errno
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from whimbrel.errors import EMBEDDED_FULL, EmbeddedUnavailable
from whimbrel.mongo.embedded.folder import Folder, Lock
from whimbrel.mongo.embedded.server import STOP_SECONDS, find, obtain, stop

_CACHE_GB: Final = 0.5
_START_SECONDS: Final = 60.0

_log = logging.getLogger(__name__)


@contextmanager
def embedded(
    home: Path, *, cache_gb: float = _CACHE_GB, start_seconds: float = _START_SECONDS
) -> Iterator[str]:
    """The URI of the MongoDB of `home`, which runs at least as long as this context."""
    owner = os.getpid()
    with _explained(home):
        folder = Folder.at(home)
        users, uri = _join(folder, cache_gb, start_seconds)
    try:
        yield uri
    finally:
        if os.getpid() == owner:  # not a forked child, whose copy of the lock is its parent's
            _leave(folder, users)


def ensure_running(home: Path, *, cache_gb: float = _CACHE_GB, start_seconds: float = _START_SECONDS) -> str:
    """The URI again, after a restart if the server is gone. For a process inside `embedded(home)`."""
    with _explained(home):
        folder = Folder.at(home)
        with folder.starting(_patience(start_seconds)):
            return obtain(folder, cache_gb, start_seconds).uri


def _join(folder: Folder, cache_gb: float, seconds: float) -> tuple[Lock, str]:
    with folder.starting(_patience(seconds)):
        users = Lock(folder.root / "users")
        try:
            users.shared(STOP_SECONDS)
            return users, obtain(folder, cache_gb, seconds).uri
        except BaseException:
            _give_up(folder, users)
            raise


def _leave(folder: Folder, users: Lock) -> None:
    """Never raises for a server that goes on running: the next user will adopt it."""
    try:
        with folder.starting(_patience(_START_SECONDS)):
            _give_up(folder, users)
    except (EmbeddedUnavailable, OSError) as error:
        _log.warning("The embedded MongoDB of %s may still run: %s", folder.root, error)
    finally:
        users.close()


def _give_up(folder: Folder, users: Lock) -> None:
    """Stops the server after its last user. The caller holds `starting`, so that nobody joins meanwhile."""
    try:
        if users.is_last() and (server := find(folder)):
            stop(folder, server)
    except EmbeddedUnavailable as error:
        _log.warning("The embedded MongoDB of %s is not stopped: %s", folder.root, error)
    finally:
        users.close()


def _patience(start_seconds: float) -> float:
    """Longer than one other process may rightly need for a start or a stop."""
    return start_seconds + STOP_SECONDS + 15


@contextmanager
def _explained(home: Path) -> Iterator[None]:
    if sys.platform == "win32":
        raise EmbeddedUnavailable(
            "The embedded MongoDB works on Linux and macOS: set MONGODB_URI to a running replica set."
        )
    try:
        yield
    except OSError as error:
        raise EmbeddedUnavailable(
            f"The embedded MongoDB cannot use {error.filename or home} ({error.strerror or error}): make it writable, or choose another home."
        ).in_short(EMBEDDED_FULL if error.errno == errno.ENOSPC else "") from error
