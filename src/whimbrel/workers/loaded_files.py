"""Which of the user's own files this process loads, as the interpreter's audit events tell.

They are noticed whichever way a file is loaded: by an import statement, by a name that is built at run time, by its path. So are
the data files that a module reads while it is loaded. Hashes are taken at that moment: the file on the disk may change later.
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


class _ThreadState(threading.local):
    loading = False  # this thread is loading the migrations
    busy = False  # this thread is handling an event: events that this causes are ignored


_thread = _ThreadState()
_hooked = False
_loaded_by: dict[Path, set[Path]] = defaultdict(set)  # module -> what its top level has loaded and read
_digests: dict[Path, str] = {}  # of what was loaded or read, taken at that moment
_late: dict[Path, str] = {}  # the same for what calls have loaded
# The hash of a code -> its files, with their names and hashes.
_known: dict[str, dict[Path, tuple[str, str | None]]] = {}
_times = 0


@contextmanager
def loading() -> Iterator[None]:
    """Notices what is loaded in this thread as part of the migrations."""
    global _hooked  # noqa: PLW0603  a hook stays for the life of the process
    if not _hooked:
        _hooked = True
        sys.addaudithook(_handle_event)
    before, _thread.loading = _thread.loading, True
    try:
        yield
    finally:
        _thread.loading = before


def loaded_by(path: Path) -> frozenset[Path]:
    """Returns which of the user's own files the top level of a module has loaded and read."""
    return frozenset(_loaded_by.get(path, ()))


def as_loaded(path: Path) -> str | None:
    """Returns the hash of a file's content when it was loaded or read here; None: it was not, or the content could not be read."""
    return _digests.get(path)


def register(code: CodeFiles, files: Mapping[str, Path], digests: Mapping[str, str | None]) -> None:
    """Remembers where the files of a code are."""
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
                name, digest_then = known[path]
                differing += [name] if digest_then != digest else []
                continue
            name = name_of(path)
            if name in others:  # another folder has a file of the same name
                name = f"{path.parent.name}/{name}"
            others[name] = digest
            if digest_of(path) != digest:
                stale.add(name)
        return Later(tuple(sorted(differing)), others, frozenset(stale))


def _handle_event(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in ("exec", "import", "open") or _thread.busy or (event == "open" and not _thread.loading):
        return
    _thread.busy = True
    try:
        if event == "open":
            _handle_read(*arguments)
        elif event == "exec":
            if isinstance(arguments[0], CodeType):
                _handle_load(arguments[0].co_filename)
        elif isinstance(arguments[1], str):  # an extension module
            _handle_load(arguments[1])
    except Exception:  # noqa: BLE001, S110  handling an event must not break what caused it
        pass
    finally:
        _thread.busy = False


def _handle_load(name: str) -> None:
    global _times  # noqa: PLW0603
    path = _own(name)
    if path is None:
        return
    digest = digest_of(path)
    if digest is None:
        return
    if not _thread.loading:
        _late[path] = digest
        _times += 1
        return
    _digests[path] = digest
    _attribute(path)


def _handle_read(name: Any, mode: str | None, flags: int) -> None:
    """Handles opening a data file for reading, if it lies with the user's code. Hidden files are settings of a host."""
    reading = flags & os.O_ACCMODE == os.O_RDONLY if mode is None else not set(mode) & set("wax+")
    if not reading or isinstance(name, int) or (text := os.fsdecode(name)).endswith(COMPILED):
        return
    path = Path(text).resolve()
    if not is_own(path):
        return
    home = next((folder for folder in code_folders() if path.is_relative_to(folder)), None)
    if home is None or not path.is_file():
        return
    if any(part.startswith(".") for part in path.relative_to(home).parts):
        return
    digest = digest_of(path)
    if digest is not None and _attribute(path):
        _digests.setdefault(path, digest)


def code_folders() -> list[Path]:
    """Returns the folders with the user's code: where imports begin, and where the process was started."""
    folders = {Path(entry or ".").resolve() for entry in sys.path} | {Path.cwd()}
    return [folder for folder in folders if folder != Path(folder.anchor) and is_own(folder)]


def _attribute(path: Path) -> bool:
    """Attributes a file to the innermost module of the user's own that is being loaded. Returns whether there is one."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None:
        if frame.f_code.co_name == MODULE:
            module = _own(frame.f_code.co_filename)
            if module is not None and module != path:
                _loaded_by[module].add(path)
                return True
        frame = frame.f_back
    return False


@lru_cache(maxsize=4096)
def _own(name: str) -> Path | None:
    """Returns the file of code that was compiled under this name, where it is the user's own."""
    if name.startswith("<"):
        return None
    path = file_at(Path(name).resolve())
    return path if path is not None and is_own(path) else None
