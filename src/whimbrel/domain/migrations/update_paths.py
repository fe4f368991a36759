"""The paths of an update document: what they mean whatever the values are, computed once for all documents."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from whimbrel.domain.migrations.marks import Mark
from whimbrel.domain.migrations.updates import check_update


class Leaf(NamedTuple):
    """One path: the index of its parent among the parents, the parts between its top-level field and its last part, and that last part."""

    path: str
    parent: int
    inner_path: tuple[str, ...]
    name: str


class Field(NamedTuple):
    """What an update does to one top-level field: as a `whole`, or at paths within it."""

    name: str
    whole: bool
    sets: tuple[Leaf, ...]
    unsets: tuple[Leaf, ...]


@dataclass(frozen=True, slots=True)
class PathSet:
    """What the paths of an update mean, whatever its values are: computed once for all documents."""

    sets: tuple[Leaf, ...]  # in the order in which MongoDB adds fields
    unsets: tuple[Leaf, ...]
    parents: tuple[tuple[str, ...], ...]
    fields: tuple[Field, ...]
    nested: frozenset[str]  # fields that keep what is not at these paths

    @property
    def dotted(self) -> bool:
        return bool(self.nested)


@lru_cache(maxsize=256)
def path_set(name: str, mark: Mark, sets: tuple[str, ...], unsets: tuple[str, ...]) -> PathSet | None:
    """Computes the set. Returns None where only MongoDB itself knows what the paths mean. Raises DefinitionInvalid for reserved ones."""
    check_update(name, mark, operators(dict.fromkeys(sets), unsets) or {"$set": {}})
    paths = (*sets, *unsets)
    if not all(isinstance(path, str) for path in paths) or paths_clash(list(paths)):
        return None
    parts = {path: tuple(path.split(".")) for path in (*sorted(sets, key=order_of), *unsets)}
    if any(not part or part[:1] == "$" for path_parts in parts.values() for part in path_parts):
        return None
    parents = tuple(dict.fromkeys(path_parts[:-1] for path_parts in parts.values()))
    leaves = [
        Leaf(path, parents.index(path_parts[:-1]), path_parts[1:-1], path_parts[-1])
        for path, path_parts in parts.items()
    ]
    setting, unsetting = tuple(leaves[: len(sets)]), tuple(leaves[len(sets) :])
    fields = tuple(
        Field(top, top in parts, _leaves_within(top, setting), _leaves_within(top, unsetting))
        for top in dict.fromkeys(path_parts[0] for path_parts in parts.values())
    )
    nested = frozenset(field.name for field in fields if not field.whole)
    return PathSet(setting, unsetting, parents, fields, nested)


def _leaves_within(top: str, leaves: Iterable[Leaf]) -> tuple[Leaf, ...]:
    return tuple(leaf for leaf in leaves if leaf.path.partition(".")[0] == top)


def operators(sets: Mapping[str, Any], unsets: Iterable[str]) -> dict[str, Any]:
    update = {"$set": dict(sets), "$unset": dict.fromkeys(unsets, "")}
    return {operator: body for operator, body in update.items() if body}


def order_of(path: str) -> list[tuple[bool, int, str]]:
    """Returns the sort key for the order in which MongoDB adds the fields of an update."""
    parts = path.split(".")
    return [
        (False, int(part), part) if part.isascii() and part.isdigit() else (True, 0, part) for part in parts
    ]


def paths_clash(paths: list[str]) -> bool:
    ordered = sorted(f"{path}." for path in paths)
    return any(longer.startswith(shorter) for shorter, longer in pairwise(ordered))


BLOCKED = object()  # something other than a document is on the way to a path


def parent_of(before: dict[str, Any], parts: tuple[str, ...]) -> Any:
    """Returns the document under `parts`, None where it is missing, or BLOCKED."""
    value: Any = before
    for part in parts:
        if part not in value:
            return None
        value = value[part]
        if not isinstance(value, dict):
            return BLOCKED
    return value
