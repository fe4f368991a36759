"""Finds the user's own files that a migration consists of: its module, and those that it imports or reads while it is loaded.

Files are known by the names of their modules, so that two machines with other folders agree. Modules that a function imports only
when it is called belong to it too: import statements are followed where they are written, without importing anything. What calls
load by a name that is built at that time is pinned when they do (`engine.running.same_code`).
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

MOST = 5000  # files that are named, and whose import statements are followed
# In a module's name, before its folder's: another folder has a file of the same name.
ELSEWHERE = "_elsewhere_in_"
SOURCE = ".py"


def code_of(module: ModuleType, came_with: Collection[str]) -> CodeFiles:
    """Returns the code of a migration's module. `came_with`: names of the modules that were loaded with it."""
    files: dict[str, Path] = {}
    others: set[str] = set()
    for name in (module.__name__, *sorted(came_with)):
        loaded = sys.modules.get(name)
        path = _file_of(loaded)
        if path is None:
            continue
        if is_own(path):
            _add(files, _file_name(name, path), path)
        else:
            others.add(name.partition(".")[0])
    _follow(files, others)
    digests = {name: loaded_files.as_loaded(path) or digest_of(path) for name, path in sorted(files.items())}
    code = CodeFiles(
        _limited({name: digest for name, digest in digests.items() if digest}), _versions(others)
    )
    loaded_files.register(code, files, digests)
    return code


def _limited(files: dict[str, str]) -> dict[str, str]:
    """Limits the files to what a row of the ledger holds; one hash stands for all others together."""
    others = list(files.items())[MOST:]
    if not others:
        return files
    return dict(list(files.items())[:MOST]) | {f"{len(others)} more files": CodeFiles(dict(others)).pin("")}


def _file_of(module: ModuleType | None) -> Path | None:
    file = getattr(module, "__file__", None)
    return file_at(Path(file).resolve()) if isinstance(file, str) else None


def _file_name(name: str, path: Path) -> str:
    """Returns the name of a module's file from where imports begin, whatever else the process has loaded."""
    name = name.partition(ELSEWHERE)[0]
    package = "/__init__" if path.stem == "__init__" else ""
    return f"{name.replace('.', '/')}{package}{path.suffix}"


def _add(files: dict[str, Path], name: str, path: Path) -> None:
    if path not in files.values():
        files.setdefault(name, path)


def _follow(files: dict[str, Path], others: set[str]) -> None:
    """Adds the files that the import statements in these files mean, what their top levels have loaded and read, and so on.

    Modules that are not the user's go to `others`: a module that Whimbrel itself has imported before does not come with the
    migration's, but its version counts.
    """
    queue = list(files.items())
    while queue and len(files) <= MOST:
        name, path = queue.pop()
        for loaded_path in sorted(loaded_files.loaded_by(path)):
            if loaded_path not in files.values():
                new = name_of(loaded_path)
                files[new] = loaded_path
                queue.append((new, loaded_path))
        if path.suffix != SOURCE:
            continue
        package = tuple(name.removesuffix(SOURCE).split("/"))[:-1]
        modules = list(_imported_modules(path, package))
        others |= {parts[0] for parts in modules if parts}
        for new, where in _imports(path, package, modules):
            if where not in files.values() and is_own(where):
                files[new] = where
                queue.append((new, where))


def _imports(
    path: Path, package: tuple[str, ...], modules: Iterable[tuple[str, ...]]
) -> Iterator[tuple[str, Path]]:
    root = path.parents[len(package)] if len(package) < len(path.parents) else path.parent
    for parts in modules:
        yield from _existing_files(root, parts)
        if not package and root != Path.cwd():
            yield from _existing_files(Path.cwd(), parts)


def _imported_modules(path: Path, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yields the modules that a file's statements may import, as the parts of their names."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        yield from _modules_of_node(node, package)


def _modules_of_node(node: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(node, ast.Import):
        yield from (tuple(alias.name.split(".")) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node.level, node.module or "", package)
        yield base
        yield from ((*base, alias.name) for alias in node.names)
    elif isinstance(node, ast.Call) and _imports_by_name(node.func):
        for argument in node.args[:1]:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                name = argument.value.lstrip(".")
                yield _absolute(len(argument.value) - len(name), name, package)


def _absolute(level: int, name: str, package: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the parts of a module's name. `level`: how many dots stand before it."""
    above = package[: len(package) - level + 1] if level else ()
    return (*above, *name.split(".")) if name else above


def _imports_by_name(function: ast.expr) -> bool:
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in ("import_module", "__import__")


def _existing_files(root: Path, parts: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yields the files of a module and of the packages around it."""
    for depth in range(1, len(parts) + 1):
        inside = "/".join(parts[:depth])
        for name in (f"{inside}{SOURCE}", f"{inside}/__init__{SOURCE}"):
            path = root / name
            with contextlib.suppress(OSError):
                if path.is_file():
                    yield name, path.resolve()


def _versions(modules: Iterable[str]) -> dict[str, str]:
    """Returns the versions of Python, Whimbrel, and the packages that these modules belong to."""
    versions = {"python": platform.python_version(), "whimbrel": importlib.metadata.version("whimbrel")}
    wanted = set(modules) - set(sys.stdlib_module_names) - {"whimbrel"}
    if wanted:
        packages = importlib.metadata.packages_distributions()
        for package in sorted({owner for name in wanted for owner in packages.get(name, ())}):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[package] = importlib.metadata.version(package)
    return versions
