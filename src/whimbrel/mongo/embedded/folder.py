"""The home folder of an embedded MongoDB: its files, its stored state, its locks."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

from whimbrel.errors import EMBEDDED_FULL, EmbeddedMissing, EmbeddedUnavailable
from whimbrel.mongo.embedded.private import FOLDER, KEYFILE, opened, refuse_link, restrict_access, secret_of

if sys.platform != "win32":
    import fcntl

LOG_LIMIT: Final = 50_000_000
SPACE_NEEDED: Final = 200_000_000
OWN: Final = frozenset({
    KEYFILE, "keyfile.new", "mongo", "mongod.json", "mongod.json.new", "mongod.log", "mongod.log.1", "start", "users",
})  # fmt: skip
_POLL: Final = 0.01


class State(NamedTuple):
    """What `mongod.json` remembers. It is only a hint: the running server decides."""

    pid: int = 0
    port: int = 0
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    root: Path

    @classmethod
    def at(cls, home: Path, *, create: bool = True) -> Self:
        """Opens a home. Raises EmbeddedMissing where there is none and `create` is false, EmbeddedUnavailable where others have access."""
        refuse_link(home)
        folder = cls(Path(os.path.realpath(home)))
        if not create and not folder.root.is_dir():
            raise _missing(folder.root)
        try:
            folder.root.mkdir(FOLDER, parents=True, exist_ok=True)
            restrict_access(folder.root, OWN)
            if not create and not folder.filled:
                raise _missing(folder.root)
            folder.data.mkdir(FOLDER, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            obstacle = next(path for path in (folder.data, *folder.data.parents) if path.exists())
            raise EmbeddedUnavailable(
                f"The embedded MongoDB needs the folder {folder.data}, but {obstacle} is a file: move it away, or choose another home."
            ) from error
        return folder

    @property
    def data(self) -> Path:
        return self.root / "mongo"

    @property
    def log(self) -> Path:
        return self.root / "mongod.log"

    @property
    def keyfile(self) -> Path:
        return self.root / KEYFILE

    @property
    def filled(self) -> bool:
        """Whether there is a database: files of its storage engine."""
        return os.access(self.data / "WiredTiger", os.F_OK)  # False also without permission to look

    def secret(self) -> str:
        """Returns the secret of its MongoDB, a new one where there is none. Only the holder of `starting` may call it."""
        return secret_of(self.keyfile)

    def state(self) -> State:
        try:
            stored = json.loads((self.root / "mongod.json").read_text("utf-8"))
            state = State(int(stored["pid"]), int(stored["port"]), stored.get("stopping") is True)
        except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
            return State()
        return state if 0 < state.pid < 2**31 and 0 < state.port < 2**16 else State()

    def remember(self, state: State) -> None:
        if state == self.state():
            return
        new_file = self.root / "mongod.json.new"
        with opened(new_file, "w") as file:
            json.dump(state._asdict(), file)
        new_file.replace(self.root / "mongod.json")

    def make_room(self) -> None:
        """Limits the log's size (one older file stays), and raises where the disk is almost full."""
        with suppress(FileNotFoundError):
            if self.log.stat().st_size > LOG_LIMIT:
                self.log.replace(self.log.with_suffix(".log.1"))
        free = shutil.disk_usage(self.root).free
        if free < SPACE_NEEDED:
            raise EmbeddedUnavailable(
                f"Only {free // 1_000_000} MB are free on the disk of {self.root}: free at least {SPACE_NEEDED // 1_000_000} MB for the embedded MongoDB."
            ).in_short(EMBEDDED_FULL)

    @contextmanager
    def starting(self, seconds: float) -> Iterator[None]:
        """Holds the exclusive right to start, join, leave and stop."""
        lock = Lock(self.root / "start")
        try:
            lock.exclusive(seconds)
            yield
        finally:
            lock.close()


class Lock:
    """A `flock`. Programs that we start do not inherit its descriptor (Python's default, PEP 446)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = opened(path, "ab")

    def shared(self, seconds: float) -> None:
        self._wait(fcntl.LOCK_SH, seconds)

    def exclusive(self, seconds: float) -> None:
        self._wait(fcntl.LOCK_EX, seconds)

    def is_last(self) -> bool:
        """Gives up the own share, and returns whether no other process holds one (then the lock is exclusive).

        Not atomic, so only the holder of `starting` may call it: it keeps others from joining in between.
        """
        fcntl.flock(self._file, fcntl.LOCK_UN)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        if not self._file.closed:
            # Unlock explicitly: a forked copy of the descriptor would keep the lock.
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._file.close()

    def _wait(self, kind: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self._file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise EmbeddedUnavailable(
                        f"Another process has held {self._path} for {seconds:.0f} s: see which one hangs (`fuser -v {self._path}`) and end it."
                    ) from None
                time.sleep(_POLL)
            else:
                return


def _missing(root: Path) -> EmbeddedMissing:
    candidates = (folder / root.name for folder in root.parent.parents)
    nearest = next((folder for folder in candidates if Folder(folder).filled), None)
    hint = (
        f" There is one in {nearest}: change to that folder, or set WHIMBREL_HOME to it." if nearest else ""
    )
    return EmbeddedMissing(
        f"There is no database: {root} holds no embedded MongoDB, and MONGODB_URI is not set.{hint} Set MONGODB_URI to a MongoDB that runs, "
        "or change to the folder where you work with Whimbrel; a new, empty one is made here by `whimbrel uri --create`, to load your "
        "data into."
    )
