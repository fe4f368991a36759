"""The home folder of an embedded MongoDB: where its files are, what it remembers, its locks."""

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

from whimbrel.errors import EMBEDDED_FULL, EmbeddedUnavailable

if sys.platform != "win32":
    import fcntl

LOG_LIMIT: Final = 50_000_000
SPACE_NEEDED: Final = 200_000_000
_POLL: Final = 0.01


class State(NamedTuple):
    """What `mongod.json` remembers. Only a hint: a running server itself knows better."""

    pid: int = 0
    port: int = 0
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Folder:
    root: Path

    @classmethod
    def at(cls, home: Path) -> Self:
        folder = cls(Path(os.path.realpath(home)))
        try:
            folder.root.mkdir(parents=True, exist_ok=True)
            folder.data.mkdir(mode=0o700, exist_ok=True)
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

    def state(self) -> State:
        try:
            found = json.loads((self.root / "mongod.json").read_text("utf-8"))
            state = State(int(found["pid"]), int(found["port"]), found.get("stopping") is True)
        except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
            return State()
        return state if 0 < state.pid < 2**31 and 0 < state.port < 2**16 else State()

    def remember(self, state: State) -> None:
        if state == self.state():
            return
        fresh = self.root / "mongod.json.new"
        fresh.write_text(json.dumps(state._asdict()), "utf-8")
        fresh.replace(self.root / "mongod.json")

    def make_room(self) -> None:
        """Keeps the log bounded (one older file stays), and refuses a disk that is as good as full."""
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
        """The exclusive right to start, join, leave and stop."""
        lock = Lock(self.root / "start")
        try:
            lock.exclusive(seconds)
            yield
        finally:
            lock.close()


class Lock:
    """A `flock`. Its descriptor is not inherited by programs that we start (Python's default, PEP 446)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab")

    def shared(self, seconds: float) -> None:
        self._wait(fcntl.LOCK_SH, seconds)

    def exclusive(self, seconds: float) -> None:
        self._wait(fcntl.LOCK_EX, seconds)

    def is_last(self) -> bool:
        """Gives up the own share, and says whether nobody else holds one (then the lock is exclusive).

        Not atomic, so only for the holder of `starting`: without that nobody can join in between.
        """
        fcntl.flock(self._file, fcntl.LOCK_UN)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        if not self._file.closed:
            # Unlocked in so many words: a forked copy of the descriptor would go on holding it.
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
