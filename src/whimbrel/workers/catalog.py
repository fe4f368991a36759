"""Finding migrations: the files and modules that define them, loaded in a process that may hold user code.

Parents ask a child for the definitions (`python -m whimbrel.workers.catalog`), so that what a migration's
module does when it is imported happens to that child alone.
"""

import base64
import binascii
import difflib
import importlib
import importlib.util
import subprocess
import sys
import traceback
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

from bson.errors import InvalidBSON

from whimbrel.domain.encoding import encoded
from whimbrel.domain.migration import Definition, Migration
from whimbrel.domain.raw import decoded
from whimbrel.domain.uuids import named, unnamed
from whimbrel.errors import DefinitionInvalid, MigrationUnknown
from whimbrel.samples.migration import SOME_MODEL

LOADING = 60  # seconds that importing the migrations may take


def load(source: str | None) -> dict[str, Migration]:
    """The built-in sample and the migrations of a file or module, by name. Raises DefinitionInvalid."""
    found = {SOME_MODEL.name: SOME_MODEL}
    if not source:
        return found
    for value in vars(_imported(source)).values():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, Migration) and found.setdefault(each.name, each) is not each:
                raise DefinitionInvalid(
                    f"Two migrations are called {each.name!r} in {source}. Rename one: give it name='...'."
                )
    return found


def _imported(source: str) -> ModuleType:
    try:
        if source.endswith(".py") or "/" in source:
            return _from_file(Path(source))
        if "" not in sys.path:
            sys.path.insert(0, "")
        return importlib.import_module(source)
    except DefinitionInvalid:
        raise
    except ModuleNotFoundError as error:
        if error.name == source:
            raise DefinitionInvalid(
                f"There is no module {source!r} to load migrations from. Give a file that ends with .py, or a module on the path."
            ) from error
        raise DefinitionInvalid(
            f"{source} cannot be loaded: {error}. Install what it imports beside Whimbrel."
        ) from error
    except (Exception, SystemExit) as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        # A syntax error says itself where it is.
        place = "" if isinstance(error, SyntaxError) else f" ({Path(last.filename).name}, line {last.lineno})"
        raise DefinitionInvalid(
            f"{source} cannot be loaded: {type(error).__name__}: {error}{place}."
        ) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise DefinitionInvalid(f"There is no file {path} to load migrations from.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise DefinitionInvalid(f"{path} is no Python file.")
    sys.path.insert(0, str(path.parent.resolve()))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def describe(source: str | None) -> dict[str, Definition]:
    """The definitions in a file or module, loaded by a child. Raises DefinitionInvalid."""
    command = [sys.executable, "-m", "whimbrel.workers.catalog", *([source] if source else [])]
    try:
        done = subprocess.run(  # noqa: S603  our own program
            command, capture_output=True, text=True, timeout=LOADING, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise DefinitionInvalid(
            f"{source} did not finish loading within {LOADING} seconds. It must only define migrations."
        ) from error
    answer = done.stdout.rpartition("\n")[2] or done.stdout.strip().rpartition("\n")[2]
    try:
        told = decoded(base64.b64decode(answer, validate=True))
    except (binascii.Error, ValueError, InvalidBSON) as error:
        raise DefinitionInvalid(
            f"{source} cannot be loaded: {done.stderr.strip().rpartition(chr(10))[2]}"
        ) from error
    if "error" in told:
        raise DefinitionInvalid(told["error"])
    return {name: _definition(row) for name, row in told["definitions"].items()}


def _definition(row: Mapping[str, Any]) -> Definition:
    reads = row["reads"]
    row = unnamed(row)
    return Definition(**{**row, "reads": None if reads is None else tuple(reads)})


def choose(found: Mapping[str, Definition], name: str) -> Definition:
    """The definition of this name. Raises MigrationUnknown with the names that are there."""
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(found))}."
        raise MigrationUnknown(
            f"There is no migration {name!r}. {hint} More are loaded by --migrations or WHIMBREL_MIGRATIONS."
        )
    return found[name]


def main() -> None:
    """Print the definitions of the source given, or why they cannot be loaded."""
    source = sys.argv[1] if len(sys.argv) > 1 else None
    try:
        rows = {
            name: {each.name: named(getattr(it.definition, each.name)) for each in fields(Definition)}
            for name, it in load(source).items()
        }
        told: dict[str, Any] = {"definitions": rows}
    except DefinitionInvalid as error:
        told = {"error": str(error).encode("utf-8", "backslashreplace").decode()}
    sys.stdout.write("\n" + base64.b64encode(encoded(told)).decode())


if __name__ == "__main__":
    main()
