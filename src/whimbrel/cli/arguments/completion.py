"""Completes names for shells: quickly, silently, and without running any code of a migration."""

import ast
import contextlib
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import typer

from whimbrel.workers.migration_places import BETWEEN, places

FILES = 200  # of a folder
LARGEST = 1_000_000  # bytes of a file
RUNS = 50  # the newest
SECONDS = 1.0  # to wait for MongoDB
DEFINES = ("Migration", "migration")


def migration_names(context: typer.Context, incomplete: str) -> list[str]:
    """Returns the migration names in the files of `--migrations` or WHIMBREL_MIGRATIONS, and the sample's."""
    names = {"some-model"}
    with contextlib.suppress(Exception):  # a failing completion is silent
        places_given = context.params.get("migrations")
        source = BETWEEN.join(places_given) if places_given else os.environ.get("WHIMBREL_MIGRATIONS", "")
        for place in places(source) if source else ():
            for file in islice(_files(Path(place)), FILES):
                names |= set(_defined_names(file))
    return sorted(name for name in names if name.startswith(incomplete))


def run_ids(incomplete: str) -> list[tuple[str, str]]:
    """Returns the newest runs where MONGODB_URI is set. Does not start an embedded MongoDB."""
    with contextlib.suppress(Exception):
        from whimbrel.bootstrap import store_at  # noqa: PLC0415  only needed with a server
        from whimbrel.settings import read_settings  # noqa: PLC0415

        settings = read_settings().model_copy(update={"whimbrel_connect_seconds": SECONDS})
        if settings.mongodb_uri:
            with store_at(settings.mongodb_uri, settings) as store:
                runs = store.ledger.runs.list(limit=RUNS)
            return [
                (run.id, f"{run.migration}, {run.status}") for run in runs if run.id.startswith(incomplete)
            ]
    return []


def _files(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from sorted(place.glob("*.py"))
        return
    module = Path(*str(place).split("."))
    for path in (place, module.with_suffix(".py"), module / "__init__.py"):
        if path.is_file():
            yield path
            return


def _defined_names(file: Path) -> Iterator[str]:
    """Yields the names of the migrations that a file defines, as they are written there."""
    with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError):
        if file.stat().st_size > LARGEST:
            return
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Call) and _called_name(node) == DEFINES[0]:
                yield from _name_argument(node)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Call) and _called_name(decorator) == DEFINES[1]:
                        yield next(_name_argument(decorator), node.name.replace("_", "-"))


def _called_name(node: ast.Call) -> str:
    function = node.func
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def _name_argument(node: ast.Call) -> Iterator[str]:
    for argument in node.keywords:
        if (
            argument.arg == "name"
            and isinstance(argument.value, ast.Constant)
            and isinstance(argument.value.value, str)
        ):
            yield argument.value.value
