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
def _foreign_folders() -> tuple[Path, ...]:
    places = [sysconfig.get_paths()[scheme] for scheme in ("stdlib", "platstdlib", "purelib", "platlib")]
    with contextlib.suppress(Exception):  # some environments have no such folders
        places += [*site.getsitepackages(), site.getusersitepackages()]
    package = Path(whimbrel.__file__).parent if whimbrel.__file__ else Path(__file__).parent.parent
    return tuple({package.resolve(), *(Path(place).resolve() for place in places)})


def is_own(path: Path) -> bool:
    """Whether a resolved path is one of the user's own files."""
    return not any(path.is_relative_to(place) for place in _foreign_folders())


def file_at(path: Path) -> Path | None:
    """Returns the file, or the archive that it lies in."""
    for candidate in (path, *path.parents):
        with contextlib.suppress(OSError):
            if candidate.is_file():
                return candidate
    return None


def name_of(path: Path) -> str:
    """Returns a file's name from where imports begin, so that two machines with other folders agree."""
    roots = {Path(entry or ".").resolve() for entry in sys.path}
    longest = max(
        (root for root in roots if path.is_relative_to(root)), key=lambda root: len(root.parts), default=None
    )
    if longest is None or longest == Path(longest.anchor):
        return f"{path.parent.name}/{path.name}"
    return path.relative_to(longest).as_posix()


def digest_of(path: Path) -> str | None:
    """Returns a hash of a file's content; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError:
        return None
