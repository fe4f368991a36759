"""The dashboard's own files: style, modules, pictures. Held in memory, at addresses that change with their content."""

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
PREFIX: Final = "/dashboard/static"


@dataclass(frozen=True, slots=True)
class Asset:
    """One file."""

    content: bytes
    type: str
    packed: bytes  # the same by gzip


@dataclass(frozen=True, slots=True)
class Assets:
    """All files. They have one version in common, as modules name one another by relative addresses."""

    version: str
    files: Mapping[str, Asset]

    def address(self, name: str) -> str:
        """Returns the address of a file. Raises LookupError where there is none of this name."""
        if name not in self.files:
            raise LookupError(f"The dashboard has no file {name!r}.")
        return f"{PREFIX}/{self.version}/{name}"


def _asset(content: bytes, kind: str) -> Asset:
    return Asset(content, kind, gzip.compress(content, mtime=0))


@cache
def assets() -> Assets:
    """Returns the files of this installation."""
    found = {
        file.name: _asset(file.read_bytes(), TYPES[f".{file.name.rpartition('.')[2]}"])
        for file in sorted(
            files("whimbrel.dashboard").joinpath("static").iterdir(), key=lambda file: file.name
        )
        if f".{file.name.rpartition('.')[2]}" in TYPES
    }
    content = hashlib.sha256()
    for name, file in found.items():
        content.update(f"{name}\0{len(file.content)}\0".encode() + file.content)
    return Assets(content.hexdigest()[:16], found)
