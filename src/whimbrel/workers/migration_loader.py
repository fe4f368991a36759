"""Loads the files and modules that define migrations, in a process that may hold user code.

What cannot be loaded stops nothing else: a refused migration does not affect the others of its file, nor a file that cannot be
loaded the others of its folder.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

from whimbrel.domain.migrations.catalog import Broken, Catalog
from whimbrel.domain.migrations.made_anew import values_of
from whimbrel.domain.migrations.migration import Migration, tolerant
from whimbrel.domain.migrations.sequence import resolved, sequence_faults
from whimbrel.domain.text.safe_text import exception_message, type_name
from whimbrel.errors import DefinitionInvalid
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.workers.code_files import ELSEWHERE, code_of
from whimbrel.workers.loaded_files import loading
from whimbrel.workers.migration_places import SourceNotThere, is_path, no_file, no_module, places

LEFT_OUT = "WHIMBREL_LEFT_OUT"  # the variable in which a parent names files not to load, as JSON
# The modules that loading a source has imported: when the process loads it once more, they exist already.
_CAME_WITH: dict[str, set[str]] = {}
_HOMES: dict[str, Path] = {}  # module name -> the first file with that name
_LOADED: dict[Path, ModuleType] = {}  # files that were not loaded as members of packages
NOTHING = "defines no migration. One is a Migration(...), or a function under @migration(...), that stands in the module under a name."
SHIPPED = "Whimbrel"  # the source of the built-in sample
NO_MIGRATIONS = ("_", "test_", "conftest.")  # beginnings of names of files in a folder that are ignored


def load(
    source: str | None, without: Collection[str] = (), begin: Callable[[str], None] = lambda _file: None
) -> Catalog[Migration]:
    """Loads the built-in sample and the migrations of files, folders and modules (see `places`).

    `without`: files that are left out, by the names that `begin` is called with before each is loaded. Raises DefinitionInvalid
    where the source does not exist, or is a single file or module that cannot be loaded.
    """
    if not source:
        return Catalog({SOME_MODEL.name: SOME_MODEL}, sources={SOME_MODEL.name: SHIPPED})
    migrations: list[tuple[str, Migration]] = [(SHIPPED, SOME_MODEL)]
    broken: list[Broken] = []
    empty: list[str] = []
    named = places(source)
    with tolerant():
        for place in named:
            before, alone = len(migrations) + len(broken), len(named) == 1
            for file, load_module in _modules_of_place(place, alone=alone):
                if file in without:
                    before = -1  # nobody knows what it defines
                    continue
                begin(file)
                try:
                    migrations += [
                        (file, migration) for migration in _migrations_of_module(file, load_module)
                    ]
                except SourceNotThere:
                    raise
                except DefinitionInvalid as error:
                    if alone and file == place:
                        raise
                    broken.append(Broken("", file, str(error)))
            if len(migrations) + len(broken) == before:
                empty.append(f"{place} {NOTHING}")
    return _catalog(migrations, broken, empty)


def _modules_of_place(place: str, *, alone: bool) -> Iterator[tuple[str, Callable[[], ModuleType]]]:
    """Yields what is loaded for a place, with its name: a file's name is short where no other place can have the same."""
    folder = _folder(place)
    if folder is None:
        yield place, partial(_load_place, place)
        return
    for file in _files(folder):
        yield file.name if alone else str(file), partial(_load_from_folder, file)


def _folder(source: str) -> Path | None:
    """Returns the folder that is meant, if any: a package that can be imported by its name alone is a module."""
    path = Path(source)
    importable = "/" not in source and (path / "__init__.py").is_file()
    return path if path.is_dir() and not importable else None


def _files(folder: Path) -> list[Path]:
    files = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith(NO_MIGRATIONS)]
    if not files:
        raise DefinitionInvalid(f"There are no Python files in the folder {folder} to load migrations from.")
    return files


def _migrations_of_module(source: str, load_module: Callable[[], ModuleType]) -> list[Migration]:
    """Returns the migrations that a module holds; those that it defines itself get the code that they consist of."""
    before = set(sys.modules)
    with loading():
        module = load_module()
    came_with = _CAME_WITH.setdefault(source, set())
    came_with |= set(sys.modules) - before
    code = code_of(module, came_with)
    migrations = []
    for value in list(vars(module).values()):
        for migration in value if isinstance(value, list | tuple) else [value]:
            if isinstance(migration, Migration):
                migrations.append(migration)
                if migration is not SOME_MODEL and not migration.definition.code.files:
                    values = (
                        values_of(migration.transform)
                        if migration.transform is not None and not migration.fault
                        else {}
                    )
                    own_code = replace(code, values=values, naive=migration.definition.code.naive)
                    migration.definition = replace(
                        migration.definition, code=own_code, code_hash=code.pin(migration.name)
                    )
    return migrations


def _catalog(
    migrations: Sequence[tuple[str, Migration]], broken: list[Broken], empty: Sequence[str]
) -> Catalog[Migration]:
    """Sorts migrations by name; those that share a name, and those that were refused, are broken."""
    unique: dict[int, tuple[str, Migration]] = {}
    for source, migration in migrations:
        # A migration that another file imports belongs to the first.
        unique.setdefault(id(migration), (source, migration))
    homes: dict[str, list[str]] = {}
    for source, migration in unique.values():
        homes.setdefault(migration.name, []).append(source)
    usable: dict[str, Migration] = {}
    for source, migration in unique.values():
        others = homes[migration.name]
        if migration.fault:
            broken.append(Broken(migration.name, source, migration.fault))
        elif len(others) == 1:
            usable[migration.name] = migration
        elif source != SHIPPED:
            where = " and ".join(dict.fromkeys(others))
            reason = (
                f"Two migrations are called {migration.name!r} in {where}. Rename one: give it name='...'."
            )
            broken.append(Broken(migration.name, source, reason))
    sources = {migration.name: source for source, migration in unique.values()}
    _put_in_sequence(usable, sources, broken)
    return Catalog(
        usable, tuple(dict.fromkeys(broken)), tuple(empty), {name: sources[name] for name in usable}
    )


def _put_in_sequence(usable: dict[str, Migration], sources: Mapping[str, str], broken: list[Broken]) -> None:
    """Resolves what migrations depend on; those that can be run in no sequence are broken."""
    definitions = {name: migration.definition for name, migration in usable.items()}
    unusable = {refused.name: refused.source for refused in broken if refused.name}
    for name, reason in sequence_faults(definitions, sources, unusable).items():
        broken.append(Broken(name, sources[name], reason))
        del usable[name]
    for migration in usable.values():
        migration.definition = resolved(migration.definition, definitions)


def _load_place(source: str) -> ModuleType:
    if is_path(source):
        path = Path(source)
        return _load_checked(source, lambda: _load_file(path))
    if "" not in sys.path:
        sys.path.insert(0, "")
    return _load_checked(source, lambda: importlib.import_module(source))


def _load_from_folder(file: Path) -> ModuleType:
    """Loads a file of a folder; in a package it is loaded as a member, so that it can import its neighbours."""
    folder = file.parent
    if not (folder / "__init__.py").is_file():
        return _load_checked(file.name, lambda: _load_file(file))
    home = str(folder.resolve().parent)
    if home not in sys.path:
        sys.path.insert(0, home)
    return _load_checked(file.name, lambda: importlib.import_module(f"{folder.resolve().name}.{file.stem}"))


def _load_checked(source: str, load_module: Callable[[], ModuleType]) -> ModuleType:
    """Loads a module. Raises DefinitionInvalid that says why it cannot be loaded, whatever it raised."""
    try:
        return load_module()
    except DefinitionInvalid:
        raise
    except ModuleNotFoundError as error:
        if not is_path(source) and f"{source}.".startswith(f"{error.name}."):
            raise no_module(source) from error
        raise DefinitionInvalid(
            f"{source} cannot be loaded: {error}. Install what it imports beside Whimbrel."
        ) from error
    except BaseException as error:
        # A syntax error tells itself where it is.
        place = "" if isinstance(error, SyntaxError) else f" ({_last_place(error)})"
        raise DefinitionInvalid(
            f"{source} cannot be loaded: {type_name(error)}: {exception_message(error)}{place}."
        ) from error


def _last_place(error: BaseException) -> str:
    last, trace = error.__traceback__, error.__traceback__
    while trace is not None:
        last, trace = trace, trace.tb_next
    return "" if last is None else f"{Path(last.tb_frame.f_code.co_filename).name}, line {last.tb_lineno}"


def _load_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise no_file(path)
    home = str(path.parent.resolve())
    if home not in sys.path:
        sys.path.insert(0, home)
    for known in (sys.modules.get(path.stem), _LOADED.get(path.resolve())):
        if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
            return known  # it is named twice, or another file has imported it
    # `copy.py` is not the library's. The name is the same in each process, whatever that has loaded: it is part of the code.
    name = f"{path.stem}_of_migrations" if path.stem in sys.stdlib_module_names else path.stem
    # Another folder has a file of the same name.
    if _HOMES.setdefault(name, path.resolve()) != path.resolve():
        name = f"{name}{ELSEWHERE}{path.resolve().parent.name}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise DefinitionInvalid(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    _LOADED[path.resolve()] = module
    return module
