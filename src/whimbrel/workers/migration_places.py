"""Where migrations are loaded from: files, folders and modules, as one text with commas in between."""

import difflib
from pathlib import Path

from whimbrel.errors import DefinitionInvalid

BETWEEN = ","


class SourceNotThere(DefinitionInvalid):
    """There is no such file, folder or module."""


def places(source: str) -> list[str]:
    """Returns each place once. A path that exists is one place, whatever commas are in it."""
    if Path(source).exists():
        return [source]
    return list(dict.fromkeys(place.strip() for place in source.split(BETWEEN) if place.strip()))


def is_path(place: str) -> bool:
    """Whether a file is meant, and not a module."""
    return place.endswith(".py") or "/" in place


def no_file(path: Path) -> SourceNotThere:
    kind = "file" if path.suffix == ".py" else "file or folder"
    return SourceNotThere(
        f"There is no {kind} {path} to load migrations from: looked for {path.absolute()}.{_similar(path)}"
    )


def no_module(name: str) -> SourceNotThere:
    folder = Path(name).absolute()
    return SourceNotThere(
        f"There is no module {name!r} to load migrations from, and no folder {folder}. Give a file that ends with .py, a folder, or a "
        f"module on the path.{_similar(Path(f'{name}.py'))}"
    )


def _similar(path: Path) -> str:
    """Suggests what may be meant among the files and folders beside a path."""
    folder = path.parent
    if not folder.is_dir():
        return f" The folder {folder.absolute()} is not there."
    neighbours = [
        neighbour.name for neighbour in folder.iterdir() if neighbour.suffix == ".py" or neighbour.is_dir()
    ]
    close = difflib.get_close_matches(path.name, neighbours, n=1)
    return f" Did you mean {folder / close[0]}?" if close else ""
