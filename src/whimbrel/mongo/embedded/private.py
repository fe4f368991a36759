"""Keeps other users of the machine out of a home, by its owner, its modes, and the secret of its MongoDB."""

import os
import re
import secrets
import stat
from pathlib import Path
from typing import IO, Any, Final

from whimbrel.errors import EmbeddedUnavailable

FOLDER: Final = 0o700
FILE: Final = 0o600
KEYFILE: Final = "keyfile"
_OTHERS: Final = 0o077
_WRITE: Final = 0o022
# Hexadecimal digits: allowed in a keyfile, and in an address without escapes.
_SECRET: Final = re.compile(r"[0-9a-f]{64}")


def refuse_link(home: Path) -> None:
    """Raises where the home is a link, whose owner could redirect it. Links further up are the system's or the user's choice."""
    if home.is_symlink():
        raise EmbeddedUnavailable(
            f"The home {home} of the embedded MongoDB is a symbolic link to {os.path.realpath(home)}: set WHIMBREL_HOME to that folder itself."
        )


def restrict_access(root: Path, own: frozenset[str]) -> None:
    """Denies others access to the home and its files. `own`: the names of what Whimbrel itself puts there.

    Raises EmbeddedUnavailable where others own the home, or could have changed what is in it.
    """
    status = root.stat()
    if status.st_uid != os.geteuid():
        raise EmbeddedUnavailable(
            f"The home {root} of the embedded MongoDB belongs to the user {_user(status.st_uid)}, and this is {_user(os.geteuid())}: "
            "work as that user, or choose another home (WHIMBREL_HOME)."
        )
    if status.st_mode & _WRITE and not _only_group_is_own(status):
        raise EmbeddedUnavailable(
            f"The home {root} of the embedded MongoDB could be written by other users (mode {stat.S_IMODE(status.st_mode):04o}): if you "
            f"trust what is in it, run `chmod 700 {root}`; else move it away, or choose another home (WHIMBREL_HOME)."
        )
    names = {path.name for path in root.iterdir()}
    if names <= own:  # the folder has no other use
        _set_mode(root, FOLDER)
    for name in names & own - {KEYFILE}:  # an exposed secret is replaced: see `secret_of`
        path = root / name
        if not path.is_symlink():
            _set_mode(path, FOLDER if path.is_dir() else FILE)


def opened(path: Path, mode: str) -> IO[Any]:
    """Opens a file without following links; a new one is accessible to its owner only."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, FILE)

    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=opener)


def secret_of(file: Path) -> str:
    """Returns the secret in the file; a new one where there is none, or others could read it."""
    return _read_secret(file) or _create_secret(file)


def _read_secret(file: Path) -> str | None:
    try:
        with opened(file, "rb") as stream:
            status = os.fstat(stream.fileno())
            text = stream.read(100).decode("latin-1").strip()
    except FileNotFoundError:
        return None
    except OSError:
        if file.is_symlink():
            return None
        raise
    private = status.st_uid == os.geteuid() and not status.st_mode & _OTHERS
    return text if private and _SECRET.fullmatch(text) else None


def _create_secret(file: Path) -> str:
    """Writes a new secret atomically: to another file, which is renamed."""
    secret = secrets.token_hex(32)
    new_file = file.with_suffix(".new")
    new_file.unlink(missing_ok=True)
    with opened(new_file, "x") as stream:
        stream.write(secret + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    new_file.replace(file)
    return secret


def _set_mode(path: Path, mode: int) -> None:
    if not path.stat().st_mode & _OTHERS:
        return
    path.chmod(mode)
    if path.stat().st_mode & _OTHERS:
        raise EmbeddedUnavailable(
            f"The file system of {path} does not keep permissions, and other users could read the embedded MongoDB: choose a home on "
            "another one (WHIMBREL_HOME), or set MONGODB_URI."
        )


def _only_group_is_own(status: os.stat_result) -> bool:
    """Whether only a group without other members may write, as many systems give each user one."""
    if status.st_mode & stat.S_IWOTH:
        return False
    import grp  # noqa: PLC0415  not on Windows
    import pwd  # noqa: PLC0415

    try:
        group, user = grp.getgrgid(status.st_gid), pwd.getpwuid(status.st_uid)
    except KeyError:
        return False
    return group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}


def _user(uid: int) -> str:
    import pwd  # noqa: PLC0415  not on Windows

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
