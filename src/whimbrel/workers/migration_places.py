"""Where migrations are looked for: files, folders and modules, as one text with commas between."""

import difflib
from pathlib import Path

from whimbrel.errors import DefinitionInvalid

BETWEEN = ","


class SourceNotThere(DefinitionInvalid):
    """There is no such file, folder or module."""


def places(source: str) -> list[str]:
    """Each of them, once. A path that is there is one, whatever commas are in it."""
    if Path(source).exists():
        return [source]
    return list(dict.fromkeys(each.strip() for each in source.split(BETWEEN) if each.strip()))


def is_path(place: str) -> bool:
    """Whether a file is meant, and not a module."""
    return place.endswith(".py") or "/" in place


def no_file(path: Path) -> SourceNotThere:
    kind = "file" if path.suffix == ".py" else "file or folder"
    return SourceNotThere(
        f"There is no {kind} {path} to load migrations from: looked for {path.absolute()}.{_similar(path)}"
    )


def no_module(name: str) -> SourceNotThere:
    here = Path(name).absolute()
    return SourceNotThere(
        f"There is no module {name!r} to load migrations from, and no folder {here}. Give a file that ends with .py, a folder, or a "
        f"module on the path.{_similar(Path(f'{name}.py'))}"
    )


def _similar(path: Path) -> str:
    """What may be meant, of the files and folders beside it."""
    folder = path.parent
    if not folder.is_dir():
        return f" The folder {folder.absolute()} is not there."
    beside = [each.name for each in folder.iterdir() if each.suffix == ".py" or each.is_dir()]
    close = difflib.get_close_matches(path.name, beside, n=1)
    return f" Did you mean {folder / close[0]}?" if close else ""
