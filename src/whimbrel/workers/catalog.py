"""Finding migrations: the files and modules that define them, loaded in a process that may hold user code.

Parents ask a child for the definitions (`python -m whimbrel.workers.catalog`), so that what a migration's
module does when it is imported happens to that child alone.
"""

import base64
import binascii
import contextlib
import difflib
import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from bson.errors import InvalidBSON

from whimbrel.domain.code import Code
from whimbrel.domain.encoding import encoded
from whimbrel.domain.migration import Definition, Migration
from whimbrel.domain.raw import decoded
from whimbrel.domain.uuids import named, unnamed
from whimbrel.domain.wording import said, type_name
from whimbrel.errors import DefinitionInvalid, MigrationUnknown
from whimbrel.samples.migration import SOME_MODEL
from whimbrel.settings import read_settings
from whimbrel.workers.code import code_of

ENDING = 1.0  # seconds that a process which has answered may take to end
LOOK = 0.2
# The modules that loading a source has brought, for a process that loads it once more: those are there already then.
_CAME_WITH: dict[str, set[str]] = {}
STDERR = 65_536  # bytes at the end of what loading prints that are kept


def load(source: str | None) -> dict[str, Migration]:
    """The built-in sample and the migrations of a file or module, by name. Raises DefinitionInvalid."""
    found = {SOME_MODEL.name: SOME_MODEL}
    if not source:
        return found
    before = set(sys.modules)
    module = _imported(source)
    came = _CAME_WITH.setdefault(source, set())
    came |= set(sys.modules) - before
    code = code_of(module, came)
    for value in vars(module).values():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, Migration) and found.setdefault(each.name, each) is not each:
                raise DefinitionInvalid(
                    f"Two migrations are called {each.name!r} in {source}. Rename one: give it name='...'."
                )
    for each in found.values():
        if each is not SOME_MODEL:
            each.definition = replace(each.definition, code=code, code_hash=code.pin(each.name))
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
    except BaseException as error:
        # A syntax error says itself where it is.
        place = "" if isinstance(error, SyntaxError) else f" ({_last_place(error)})"
        raise DefinitionInvalid(
            f"{source} cannot be loaded: {type_name(error)}: {said(error)}{place}."
        ) from error


def _last_place(error: BaseException) -> str:
    last, trace = error.__traceback__, error.__traceback__
    while trace is not None:
        last, trace = trace, trace.tb_next
    return "" if last is None else f"{Path(last.tb_frame.f_code.co_filename).name}, line {last.tb_lineno}"


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
    answer, printed = _asked(source, read_settings().whimbrel_loading)
    try:
        told = decoded(base64.b64decode(answer.strip(), validate=True))
    except (binascii.Error, ValueError, InvalidBSON) as error:
        last = printed.strip().rpartition("\n")[2]
        raise DefinitionInvalid(
            f"{source} cannot be loaded: {last or 'the process that loaded it ended without a word'}"
        ) from error
    if "error" in told:
        raise DefinitionInvalid(told["error"])
    return {name: _definition(row) for name, row in told["definitions"].items()}


def _asked(source: str | None, seconds: float) -> tuple[str, str]:
    """What the child answers, and the end of what it printed. Whatever else holds its streams open is not waited for."""
    answers, answering = os.pipe()
    command = [
        sys.executable,
        "-m",
        "whimbrel.workers.catalog",
        str(answering),
        *([source] if source else []),
    ]
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(  # noqa: S603  our own program
            command, stdin=subprocess.DEVNULL, stdout=printed, stderr=printed, pass_fds=(answering,)
        )
        os.close(answering)
        found: list[bytes] = []

        def read() -> None:
            with os.fdopen(answers, "rb") as stream:
                found.append(stream.readline())

        reader = threading.Thread(target=read, name="catalog", daemon=True)
        reader.start()
        end = time.monotonic() + seconds
        while not found and process.poll() is None and time.monotonic() < end:
            reader.join(LOOK)
        late = not found and process.poll() is None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0 if late else ENDING)
        process.kill()  # its threads and exit handlers may wait for ever
        process.wait()
        if late:
            raise DefinitionInvalid(
                f"{source} did not finish loading within {seconds:g} seconds. It should only define migrations; where its imports "
                "do take longer, raise WHIMBREL_LOADING."
            )
        reader.join(ENDING)
        size = printed.seek(0, os.SEEK_END)
        printed.seek(max(0, size - STDERR))
        return b"".join(found).decode(), printed.read().decode("utf-8", "replace")


def _definition(row: Mapping[str, Any]) -> Definition:
    reads = row["reads"]
    row = unnamed(row)
    return Definition(
        **{**row, "reads": None if reads is None else tuple(reads), "code": Code(**row["code"])}
    )


def choose(found: Mapping[str, Definition], name: str) -> Definition:
    """The definition of this name. Raises MigrationUnknown with the names that are there."""
    if name not in found:
        close = difflib.get_close_matches(name, found, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(found))}."
        raise MigrationUnknown(
            f"There is no migration {name!r}. {hint} More are loaded by --migrations or WHIMBREL_MIGRATIONS."
        )
    return found[name]


def evaluate(source: str | None, name: str) -> Definition:
    """A migration as its code evaluates it now: whatever starts a run asks, for its filter may hold the time.

    Raises DefinitionInvalid, MigrationUnknown.
    """
    if name == SOME_MODEL.name:  # Whimbrel's own, the same at any time
        return SOME_MODEL.definition
    return choose(describe(source), name)


def main() -> None:
    """Write the definitions of the source given, or why they cannot be loaded, to the pipe given."""
    answers, source = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None  # noqa: PLR2004
    os.set_inheritable(answers, False)
    try:
        rows = {
            name: {
                **{each.name: named(getattr(it.definition, each.name)) for each in fields(Definition)},
                "code": asdict(it.definition.code),
            }
            for name, it in load(source).items()
        }
        told: dict[str, Any] = {"definitions": rows}
    except DefinitionInvalid as error:
        told = {"error": str(error).encode("utf-8", "backslashreplace").decode()}
    with os.fdopen(answers, "w") as stream:
        stream.write(base64.b64encode(encoded(told)).decode() + "\n")


if __name__ == "__main__":
    main()
