"""Which of the user's own files a migration consists of: its module, and whatever of theirs that imports.

Their own is what lies neither in the standard library nor among installed packages, and is not Whimbrel's. Files are known by the
names of their modules, so that two machines with other folders agree. Modules that a function imports only when it is called
belong to it too: import statements are followed where they are written, without importing anything.
"""

import ast
import contextlib
import hashlib
import importlib.metadata
import platform
import site
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import whimbrel
from whimbrel.domain.code import Code

MOST = 5000  # files
ELSEWHERE = "_elsewhere_in_"  # in a module's name, before its folder's: another folder has a file that is called the same
SOURCE = ".py"


def code_of(module: ModuleType, loaded: Collection[str]) -> Code:
    """The code of a migration's module. `loaded`: names of the modules that came with it."""
    found: dict[str, Path] = {}
    others: set[str] = set()
    for name in (module.__name__, *sorted(loaded)):
        each = sys.modules.get(name)
        path = _file_of(each)
        if path is None:
            continue
        if _is_own(path):
            _add(found, _called(name, path), path)
        else:
            others.add(name.partition(".")[0])
    _follow(found, others)
    files = {name: digest for name, path in sorted(found.items())[:MOST] if (digest := _digest(path))}
    return Code(files, _versions(others))


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return Path(file).resolve() if isinstance(file, str) else None


@cache
def _not_own() -> tuple[Path, ...]:
    places = [sysconfig.get_paths()[each] for each in ("stdlib", "platstdlib", "purelib", "platlib")]
    with contextlib.suppress(Exception):  # some environments have no such folders
        places += [*site.getsitepackages(), site.getusersitepackages()]
    ours = Path(whimbrel.__file__).parent if whimbrel.__file__ else Path(__file__).parent.parent
    return tuple({ours.resolve(), *(Path(each).resolve() for each in places)})


def _is_own(path: Path) -> bool:
    return not any(path.is_relative_to(each) for each in _not_own())


def _called(name: str, path: Path) -> str:
    """The name of a module's file from where imports begin, whatever else the process has loaded."""
    name = name.partition(ELSEWHERE)[0]
    package = "/__init__" if path.stem == "__init__" else ""
    return f"{name.replace('.', '/')}{package}{path.suffix}"


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    if path not in found.values():
        found.setdefault(name, path)


def _follow(found: dict[str, Path], others: set[str]) -> None:
    """Add the files that the import statements in these files mean, and those that theirs do; what else they name goes to `others`.

    A module that Whimbrel itself has imported before does not come with the migration's, but its version counts.
    """
    queue = list(found.items())
    while queue and len(found) <= MOST:
        name, path = queue.pop()
        if path.suffix != SOURCE:
            continue
        package = tuple(name.removesuffix(SOURCE).split("/"))[:-1]
        meant = list(_meant(path, package))
        others |= {parts[0] for parts in meant if parts}
        for new, where in _imports(path, package, meant):
            if where not in found.values() and _is_own(where):
                found[new] = where
                queue.append((new, where))


def _imports(
    path: Path, package: tuple[str, ...], meant: Iterable[tuple[str, ...]]
) -> Iterator[tuple[str, Path]]:
    root = path.parents[len(package)] if len(package) < len(path.parents) else path.parent
    for parts in meant:
        yield from _existing(root, parts)
        if not package and root != Path.cwd():
            yield from _existing(Path.cwd(), parts)


def _meant(path: Path, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The modules that a file's statements may import, as the parts of their names."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        yield from _named(node, package)


def _named(node: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(node, ast.Import):
        yield from (tuple(each.name.split(".")) for each in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package[: len(package) - node.level + 1] if node.level else ()
        base = (*above, *(node.module or "").split(".")) if node.module else above
        yield base
        yield from ((*base, each.name) for each in node.names)


def _existing(root: Path, parts: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """The files of a module and of the packages around it."""
    for depth in range(1, len(parts) + 1):
        inside = "/".join(parts[:depth])
        for name in (f"{inside}{SOURCE}", f"{inside}/__init__{SOURCE}"):
            path = root / name
            with contextlib.suppress(OSError):
                if path.is_file():
                    yield name, path.resolve()


def _digest(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError:
        return None


def _versions(modules: Iterable[str]) -> dict[str, str]:
    """Of Python, Whimbrel, and the packages that these modules belong to."""
    found = {"python": platform.python_version(), "whimbrel": importlib.metadata.version("whimbrel")}
    wanted = set(modules) - set(sys.stdlib_module_names) - {"whimbrel"}
    if wanted:
        packages = importlib.metadata.packages_distributions()
        for each in sorted({one for name in wanted for one in packages.get(name, ())}):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[each] = importlib.metadata.version(each)
    return found
