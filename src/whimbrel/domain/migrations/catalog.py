"""The migrations that were found in one place: those that can be used, and why the others cannot."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from whimbrel.errors import DefinitionInvalid, MigrationUnknown

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Broken:
    """What cannot be used: one migration, or where `name` is empty, all that a file defines."""

    name: str
    source: str  # file or module
    reason: str  # a sentence for the author


class Catalog(dict[str, T]):
    """What can be used, by name. `broken`: what cannot; `empty`: for each place that defines nothing, a sentence that says so."""

    def __init__(
        self,
        found: Mapping[str, T] | None = None,
        broken: tuple[Broken, ...] = (),
        empty: tuple[str, ...] = (),
    ) -> None:
        super().__init__(found or {})
        self.broken, self.empty = broken, empty

    @property
    def unloadable(self) -> tuple[str, ...]:
        """Files that nobody shall load again: whoever tried did not come back, or found nothing that can be used."""
        return tuple(each.source for each in self.broken if not each.name)

    def fault(self, name: str) -> str:
        """Why the migration of this name cannot be used; nothing where no such one is known."""
        return next((each.reason for each in self.broken if each.name == name), "")


def choose(found: Catalog[T], name: str) -> T:
    """What has this name.

    Raises DefinitionInvalid where it is broken, or may stand in a file that is; MigrationUnknown with the names that are there.
    """
    if name in found:
        return found[name]
    if fault := found.fault(name):
        raise DefinitionInvalid(fault)
    files = [each for each in found.broken if not each.name]
    if files:
        more = f" {len(files) - 1} more files are broken: whimbrel migrations shows why." if files[1:] else ""
        raise DefinitionInvalid(
            f"There is no migration {name!r} among those that could be loaded. {files[0].reason}{more}"
        )
    close = difflib.get_close_matches(name, found, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"There are: {', '.join(sorted(found))}."
    hint = " ".join([*found.empty, hint])
    raise MigrationUnknown(
        f"There is no migration {name!r}. {hint} More are loaded by --migrations or WHIMBREL_MIGRATIONS."
    )
