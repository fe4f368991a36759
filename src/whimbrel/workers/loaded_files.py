"""Which of the user's own files this process loads, as the interpreter tells it: audit events.

They are heard whichever way a file is loaded: by an import statement, by a name that is made at run time, by its path. So are
the data files that a module reads while it is loaded. Hashes are taken at that moment: what is on the disk later may be another file.
"""

import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.ports.loaded import Later
from whimbrel.workers.own_files import digest_of, file_at, is_own, name_of

COMPILED = ".pyc"
MODULE = "<module>"  # the name of the code of a module's top level


class _Here(threading.local):
    loading = False  # the migrations are loaded in this thread
    busy = False  # it hears an event, and what it does itself is none


_here = _Here()
_hearing = False
_brought: dict[Path, set[Path]] = defaultdict(set)  # by a module: what its top level has loaded and read
_digests: dict[Path, str] = {}  # of what was loaded or read, at that moment
_late: dict[Path, str] = {}  # the same of what was loaded by calls
_known: dict[
    str, dict[Path, tuple[str, str | None]]
] = {}  # by the hash of a code: its files, their names and hashes
_times = 0


@contextmanager
def loading() -> Iterator[None]:
    """While migrations are loaded in this thread."""
    global _hearing  # noqa: PLW0603  a hook is one of the process, for its life
    if not _hearing:
        _hearing = True
        sys.addaudithook(_hear)
    before, _here.loading = _here.loading, True
    try:
        yield
    finally:
        _here.loading = before


def brought_by(path: Path) -> frozenset[Path]:
    """What the top level of a module has loaded, and read, of the user's own files."""
    return frozenset(_brought.get(path, ()))


def as_loaded(path: Path) -> str | None:
    """The hash of a file's content when it was loaded or read here; None: it was not, or the content could not be read."""
    return _digests.get(path)


def know(code: CodeFiles, files: Mapping[str, Path], digests: Mapping[str, str | None]) -> None:
    """Keep where the files of a code are."""
    _known[code.pin("")] = {path: (name, digests[name]) for name, path in files.items()}


class LoadedHere:
    """See `whimbrel.ports.Loaded`."""

    @property
    def times(self) -> int:
        return _times

    def later(self, code: CodeFiles) -> Later:
        known = _known.get(code.pin(""), {})
        differing: list[str] = []
        others: dict[str, str] = {}
        stale: set[str] = set()
        for path, digest in list(_late.items()):
            if path in known:
                name, then = known[path]
                differing += [name] if then != digest else []
                continue
            name = name_of(path)
            if name in others:  # another folder has one that is called the same
                name = f"{path.parent.name}/{name}"
            others[name] = digest
            if digest_of(path) != digest:
                stale.add(name)
        return Later(tuple(sorted(differing)), others, frozenset(stale))


def _hear(event: str, given: tuple[Any, ...]) -> None:
    if event not in ("exec", "import", "open") or _here.busy or (event == "open" and not _here.loading):
        return
    _here.busy = True
    try:
        if event == "open":
            _read(*given)
        elif event == "exec":
            if isinstance(given[0], CodeType):
                _loaded(given[0].co_filename)
        elif isinstance(given[1], str):  # an extension module
            _loaded(given[1])
    except Exception:  # noqa: BLE001, S110  what is heard must not break what is done
        pass
    finally:
        _here.busy = False


def _loaded(name: str) -> None:
    global _times  # noqa: PLW0603
    path = _own(name)
    if path is None:
        return
    digest = digest_of(path)
    if digest is None:
        return
    if not _here.loading:
        _late[path] = digest
        _times += 1
        return
    _digests[path] = digest
    _note(path)


def _read(name: Any, mode: str | None, flags: int) -> None:
    """A data file that is opened for reading: one that lies with the user's code. Hidden ones are settings of a host."""
    reading = flags & os.O_ACCMODE == os.O_RDONLY if mode is None else not set(mode) & set("wax+")
    if not reading or isinstance(name, int) or (text := os.fsdecode(name)).endswith(COMPILED):
        return
    path = Path(text).resolve()
    if not is_own(path):
        return
    at_home = next((each for each in homes() if path.is_relative_to(each)), None)
    if at_home is None or not path.is_file():
        return
    if any(each.startswith(".") for each in path.relative_to(at_home).parts):
        return
    digest = digest_of(path)
    if digest is not None and _note(path):
        _digests.setdefault(path, digest)


def homes() -> list[Path]:
    """Folders with the user's code: those that imports begin in, and the one that the process was started in."""
    found = {Path(each or ".").resolve() for each in sys.path} | {Path.cwd()}
    return [each for each in found if each != Path(each.anchor) and is_own(each)]


def _note(path: Path) -> bool:
    """Whether a module of the user's own is being loaded, which brings this file: the innermost that is."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_name == MODULE:
            by = _own(frame.f_code.co_filename)
            if by is not None and by != path:
                _brought[by].add(path)
                return True
        frame = frame.f_back
    return False


@lru_cache(maxsize=4096)
def _own(name: str) -> Path | None:
    """The file that code is of, by the name that it was compiled under, where it is the user's own."""
    if name.startswith("<"):
        return None
    path = file_at(Path(name).resolve())
    return path if path is not None and is_own(path) else None
