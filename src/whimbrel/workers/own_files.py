"""The user's own files: what lies neither in the standard library nor among installed packages, and is not Whimbrel's."""

import contextlib
import hashlib
import site
import sys
import sysconfig
from functools import cache
from pathlib import Path

import whimbrel


@cache
def _not_own() -> tuple[Path, ...]:
    places = [sysconfig.get_paths()[each] for each in ("stdlib", "platstdlib", "purelib", "platlib")]
    with contextlib.suppress(Exception):  # some environments have no such folders
        places += [*site.getsitepackages(), site.getusersitepackages()]
    ours = Path(whimbrel.__file__).parent if whimbrel.__file__ else Path(__file__).parent.parent
    return tuple({ours.resolve(), *(Path(each).resolve() for each in places)})


def is_own(path: Path) -> bool:
    """Whether a resolved path is of the user's own."""
    return not any(path.is_relative_to(each) for each in _not_own())


def file_at(path: Path) -> Path | None:
    """The file, or the archive that it lies in."""
    for each in (path, *path.parents):
        with contextlib.suppress(OSError):
            if each.is_file():
                return each
    return None


def name_of(path: Path) -> str:
    """A file's name from where imports begin, so that two machines with other folders agree."""
    roots = {Path(each or ".").resolve() for each in sys.path}
    longest = max(
        (each for each in roots if path.is_relative_to(each)), key=lambda it: len(it.parts), default=None
    )
    if longest is None or longest == Path(longest.anchor):
        return f"{path.parent.name}/{path.name}"
    return path.relative_to(longest).as_posix()


def digest_of(path: Path) -> str | None:
    """A hash of a file's content; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return None
