"""The migrations that were found in one place: those that can be used, and why the others cannot."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from whimbrel.errors import DefinitionInvalid, MigrationUnknown

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broken:
    """Something unusable: one migration, or where `name` is empty, all that a file defines."""

    name: str
    source: str  # file or module
    reason: str  # a sentence for the author


class Catalog(dict[str, T]):
    """The usable migrations, by name. `broken`: the unusable ones; `empty`: for each place that defines nothing, a sentence that says so.

    `sources`: the file or module of each usable one.
    """

    def __init__(
        self,
        usable: Mapping[str, T] | None = None,
        broken: tuple[Broken, ...] = (),
        empty: tuple[str, ...] = (),
        sources: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(usable or {})
        self.broken, self.empty, self.sources = broken, empty, dict(sources or {})

    @property
    def unloadable(self) -> tuple[str, ...]:
        """Files that must not be loaded again: loading them did not end, or found nothing usable."""
        return tuple(broken.source for broken in self.broken if not broken.name)

    def fault(self, name: str) -> str:
        """Returns why the migration of this name cannot be used; an empty string where it is unknown."""
        return next((broken.reason for broken in self.broken if broken.name == name), "")


def choose(catalog: Catalog[T], name: str) -> T:
    """Returns the migration of this name.

    Raises DefinitionInvalid where it is broken, or may be in a broken file; MigrationUnknown with the names that exist.
    """
    if name in catalog:
        return catalog[name]
    if fault := catalog.fault(name):
        raise DefinitionInvalid(fault)
    files = [broken for broken in catalog.broken if not broken.name]
    if files:
        others = (
            f" {len(files) - 1} more files are broken: whimbrel migrations shows why." if files[1:] else ""
        )
        raise DefinitionInvalid(
            f"There is no migration {name!r} among those that could be loaded. {files[0].reason}{others}"
        )
    close = difflib.get_close_matches(name, catalog, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(catalog))}."
    hint = " ".join([*catalog.empty, hint])
    raise MigrationUnknown(
        f"There is no migration {name!r}. {hint} More are loaded by --migrations or WHIMBREL_MIGRATIONS."
    )
