"""Which of the user's own files a migration consists of: its module, and whatever of theirs that imports or reads while it is loaded.

Files are known by the names of their modules, so that two machines with other folders agree. Modules that a function imports only
when it is called belong to it too: import statements are followed where they are written, without importing anything. What calls
load by a name that is made then is pinned when they do (`engine.running.same_code`).
"""

import ast
import contextlib
import importlib.metadata
import platform
import sys
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType

from whimbrel.domain.migrations.code import CodeFiles
from whimbrel.workers import loaded_files
from whimbrel.workers.own_files import digest_of, file_at, is_own, name_of

MOST = 5000  # files that are named, and to which import statements are followed
ELSEWHERE = "_elsewhere_in_"  # in a module's name, before its folder's: another folder has a file that is called the same
SOURCE = ".py"


def code_of(module: ModuleType, came: Collection[str]) -> CodeFiles:
    """The code of a migration's module. `came`: names of the modules that were loaded with it."""
    found: dict[str, Path] = {}
    others: set[str] = set()
    for name in (module.__name__, *sorted(came)):
        each = sys.modules.get(name)
        path = _file_of(each)
        if path is None:
            continue
        if is_own(path):
            _add(found, _called(name, path), path)
        else:
            others.add(name.partition(".")[0])
    _follow(found, others)
    digests = {name: loaded_files.as_loaded(path) or digest_of(path) for name, path in sorted(found.items())}
    code = CodeFiles(_few({name: digest for name, digest in digests.items() if digest}), _versions(others))
    loaded_files.know(code, found, digests)
    return code


def _few(files: dict[str, str]) -> dict[str, str]:
    """As many files as a row of the ledger holds; a hash stands for all others together."""
    rest = list(files.items())[MOST:]
    if not rest:
        return files
    return dict(list(files.items())[:MOST]) | {f"{len(rest)} more files": CodeFiles(dict(rest)).pin("")}


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return file_at(Path(file).resolve()) if isinstance(file, str) else None


def _called(name: str, path: Path) -> str:
    """The name of a module's file from where imports begin, whatever else the process has loaded."""
    name = name.partition(ELSEWHERE)[0]
    package = "/__init__" if path.stem == "__init__" else ""
    return f"{name.replace('.', '/')}{package}{path.suffix}"


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    if path not in found.values():
        found.setdefault(name, path)


def _follow(found: dict[str, Path], others: set[str]) -> None:
    """Add the files that the import statements in these files mean, what their top levels have loaded and read, and what those do.

    What else they name goes to `others`.
    A module that Whimbrel itself has imported before does not come with the migration's, but its version counts.
    """
    queue = list(found.items())
    while queue and len(found) <= MOST:
        name, path = queue.pop()
        for brought in sorted(loaded_files.brought_by(path)):
            if brought not in found.values():
                new = name_of(brought)
                found[new] = brought
                queue.append((new, brought))
        if path.suffix != SOURCE:
            continue
        package = tuple(name.removesuffix(SOURCE).split("/"))[:-1]
        meant = list(_meant(path, package))
        others |= {parts[0] for parts in meant if parts}
        for new, where in _imports(path, package, meant):
            if where not in found.values() and is_own(where):
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
        base = _absolute(node.level, node.module or "", package)
        yield base
        yield from ((*base, each.name) for each in node.names)
    elif isinstance(node, ast.Call) and _imports_by_name(node.func):
        for each in node.args[:1]:
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                name = each.value.lstrip(".")
                yield _absolute(len(each.value) - len(name), name, package)


def _absolute(level: int, name: str, package: tuple[str, ...]) -> tuple[str, ...]:
    """The parts of a module's name. `level`: how many dots stand before it."""
    above = package[: len(package) - level + 1] if level else ()
    return (*above, *name.split(".")) if name else above


def _imports_by_name(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _existing(root: Path, parts: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """The files of a module and of the packages around it."""
    for depth in range(1, len(parts) + 1):
        inside = "/".join(parts[:depth])
        for name in (f"{inside}{SOURCE}", f"{inside}/__init__{SOURCE}"):
            path = root / name
            with contextlib.suppress(OSError):
                if path.is_file():
                    yield name, path.resolve()


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
