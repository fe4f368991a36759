"""The kinds of change that a document can get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from whimbrel.domain.bson.raw_bson import iterate_fields


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The change would leave the document as it is."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The function returned SKIP."""


class Row(NamedTuple):
    """New values of whole top-level fields, as an encoded document, and fields to remove.

    Many rows travel in one statement, whatever their fields are.
    """

    values: bytes
    unset: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that get new values."""
        return tuple(name.decode() for name, _, _ in iterate_fields(self.values))


@dataclass(frozen=True, slots=True)
class Paths:
    """Values of nested paths, where only declared reads are guarded and other fields may have changed."""

    values: dict[str, Any]
    unset: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[str, ...]:
        """The paths that must still be documents when this is written."""
        prefixes = {
            path[:position]
            for path in (*self.values, *self.unset)
            for position, char in enumerate(path)
            if char == "."
        }
        return tuple(sorted(prefixes))

    @property
    def fields(self) -> tuple[str, ...]:
        """The top-level fields that hold these paths."""
        return tuple(dict.fromkeys(path.partition(".")[0] for path in (*self.values, *self.unset)))


class Whole(NamedTuple):
    """What the whole document becomes, as raw BSON; many travel in one statement."""

    document: bytes


@dataclass(frozen=True, slots=True)
class Single:
    """An update that only MongoDB itself can carry out, one document at a time.

    `whole`: it replaces the whole document, so declared reads are not a sufficient guard.
    """

    update: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    whole: bool = False


Change = Unchanged | Skipped | Row | Paths | Whole | Single
