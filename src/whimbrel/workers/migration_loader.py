"""Loading the files and modules that define migrations, in a process that may hold user code.

What cannot be loaded stops nothing else: a migration that is refused leaves the others of its file, a file that cannot be
loaded the others of its folder.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

from whimbrel.domain.migrations.catalog import Broken, Catalog
from whimbrel.domain.migrations.made_anew import values_of
from whimbrel.domain.migrations.migration import Migration, tolerant
from whimbrel.domain.text.safe_text import exception_message, type_name
from whimbrel.errors import DefinitionInvalid
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.workers.code_files import ELSEWHERE, code_of
from whimbrel.workers.loaded_files import loading
from whimbrel.workers.migration_places import SourceNotThere, is_path, no_file, no_module, places

LEFT_OUT = "WHIMBREL_LEFT_OUT"  # variable by which a parent names files that are not to be loaded, as JSON
# The modules that loading a source has brought, for a process that loads it once more: those are there already then.
_CAME_WITH: dict[str, set[str]] = {}
_HOMES: dict[str, Path] = {}  # names of modules, and the file that had each first
_LOADED: dict[Path, ModuleType] = {}  # files that were loaded by themselves
NOTHING = "defines no migration. One is a Migration(...), or a function under @migration(...), that stands in the module under a name."
SHIPPED = "Whimbrel"  # where the built-in sample is from
NO_MIGRATIONS = ("_", "test_", "conftest.")  # beginnings of names of files in a folder that are not looked at


def load(
    source: str | None, without: Collection[str] = (), begin: Callable[[str], None] = lambda _file: None
) -> Catalog[Migration]:
    """The built-in sample and the migrations of files, folders and modules (see `places`).

    `without`: files that are left out, by the names that `begin` is called with before each is loaded. Raises DefinitionInvalid
    where there is no such source, or it is a single file or module and cannot be loaded.
    """
    if not source:
        return Catalog({SOME_MODEL.name: SOME_MODEL})
    found: list[tuple[str, Migration]] = [(SHIPPED, SOME_MODEL)]
    broken: list[Broken] = []
    empty: list[str] = []
    named = places(source)
    with tolerant():
        for place in named:
            before, alone = len(found) + len(broken), len(named) == 1
            for file, load_it in _units(place, alone=alone):
                if file in without:
                    before = -1  # nobody knows what it defines
                    continue
                begin(file)
                try:
                    found += [(file, each) for each in _defined(file, load_it)]
                except SourceNotThere:
                    raise
                except DefinitionInvalid as error:
                    if alone and file == place:
                        raise
                    broken.append(Broken("", file, str(error)))
            if len(found) + len(broken) == before:
                empty.append(f"{place} {NOTHING}")
    return _sorted_out(found, broken, empty)


def _units(place: str, *, alone: bool) -> Iterator[tuple[str, Callable[[], ModuleType]]]:
    """What is loaded of a place one after the other, each by its name: a file's is short where no other place can have the same."""
    folder = _folder(place)
    if folder is None:
        yield place, partial(_imported, place)
        return
    for file in _files(folder):
        yield file.name if alone else str(file), partial(_of_folder, file)


def _folder(source: str) -> Path | None:
    """The folder that is meant, if one is: a package that can be imported by its name alone is a module."""
    path = Path(source)
    named = "/" not in source and (path / "__init__.py").is_file()
    return path if path.is_dir() and not named else None


def _files(folder: Path) -> list[Path]:
    found = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith(NO_MIGRATIONS)]
    if not found:
        raise DefinitionInvalid(f"There are no Python files in the folder {folder} to load migrations from.")
    return found


def _defined(source: str, load_it: Callable[[], ModuleType]) -> list[Migration]:
    """The migrations that a module holds, those that it defines with the code that they are."""
    before = set(sys.modules)
    with loading():
        module = load_it()
    came = _CAME_WITH.setdefault(source, set())
    came |= set(sys.modules) - before
    code = code_of(module, came)
    found = []
    for value in list(vars(module).values()):
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, Migration):
                found.append(each)
                if each is not SOME_MODEL and not each.definition.code.files:
                    values = (
                        values_of(each.transform) if each.transform is not None and not each.fault else {}
                    )
                    its = replace(code, values=values, naive=each.definition.code.naive)
                    each.definition = replace(each.definition, code=its, code_hash=code.pin(each.name))
    return found


def _sorted_out(
    found: Sequence[tuple[str, Migration]], broken: list[Broken], empty: Sequence[str]
) -> Catalog[Migration]:
    """Each by its name; those that share one, and those that were refused, are broken."""
    once: dict[int, tuple[str, Migration]] = {}
    for source, each in found:
        once.setdefault(id(each), (source, each))  # one that another file imports is that of the first
    homes: dict[str, list[str]] = {}
    for source, each in once.values():
        homes.setdefault(each.name, []).append(source)
    usable: dict[str, Migration] = {}
    for source, each in once.values():
        others = homes[each.name]
        if each.fault:
            broken.append(Broken(each.name, source, each.fault))
        elif len(others) == 1:
            usable[each.name] = each
        elif source != SHIPPED:
            where = " and ".join(dict.fromkeys(others))
            twice = f"Two migrations are called {each.name!r} in {where}. Rename one: give it name='...'."
            broken.append(Broken(each.name, source, twice))
    return Catalog(usable, tuple(dict.fromkeys(broken)), tuple(empty))


def _imported(source: str) -> ModuleType:
    if is_path(source):
        path = Path(source)
        return _loaded(source, lambda: _from_file(path))
    if "" not in sys.path:
        sys.path.insert(0, "")
    return _loaded(source, lambda: importlib.import_module(source))


def _of_folder(file: Path) -> ModuleType:
    """A file of a folder; one of a package is loaded as its member, so that it can import its neighbours."""
    folder = file.parent
    if not (folder / "__init__.py").is_file():
        return _loaded(file.name, lambda: _from_file(file))
    home = str(folder.resolve().parent)
    if home not in sys.path:
        sys.path.insert(0, home)
    return _loaded(file.name, lambda: importlib.import_module(f"{folder.resolve().name}.{file.stem}"))


def _loaded(source: str, load_it: Callable[[], ModuleType]) -> ModuleType:
    """Raises DefinitionInvalid that says why it cannot be loaded, whatever it raised."""
    try:
        return load_it()
    except DefinitionInvalid:
        raise
    except ModuleNotFoundError as error:
        if not is_path(source) and f"{source}.".startswith(f"{error.name}."):
            raise no_module(source) from error
        raise DefinitionInvalid(
            f"{source} cannot be loaded: {error}. Install what it imports beside Whimbrel."
        ) from error
    except BaseException as error:
        # A syntax error says itself where it is.
        place = "" if isinstance(error, SyntaxError) else f" ({_last_place(error)})"
        raise DefinitionInvalid(
            f"{source} cannot be loaded: {type_name(error)}: {exception_message(error)}{place}."
        ) from error


def _last_place(error: BaseException) -> str:
    last, trace = error.__traceback__, error.__traceback__
    while trace is not None:
        last, trace = trace, trace.tb_next
    return "" if last is None else f"{Path(last.tb_frame.f_code.co_filename).name}, line {last.tb_lineno}"


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise no_file(path)
    home = str(path.parent.resolve())
    if home not in sys.path:
        sys.path.insert(0, home)
    for known in (sys.modules.get(path.stem), _LOADED.get(path.resolve())):
        if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
            return known  # it is named twice, or another file has imported it
    # `copy.py` is not the library's. The same name in each process, whatever else that has loaded: it is told with the code.
    name = f"{path.stem}_of_migrations" if path.stem in sys.stdlib_module_names else path.stem
    if (
        _HOMES.setdefault(name, path.resolve()) != path.resolve()
    ):  # another folder has one that is called the same
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
