"""The paths of an update document: what they say whatever the values are, worked out once for all documents."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from whimbrel.domain.marks import Mark
from whimbrel.domain.updates import check_update


class Leaf(NamedTuple):
    """One path: its parent's place among the parents, the parent's parts, and the last part."""

    path: str
    parent: int
    parts: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class PathSet:
    """What the paths of an update say, whatever its values are: worked out once for all documents."""

    sets: tuple[Leaf, ...]  # in the order in which MongoDB adds fields
    unsets: tuple[Leaf, ...]
    parents: tuple[tuple[str, ...], ...]
    tops: tuple[str, ...]
    dotted: bool


@lru_cache(maxsize=256)
def path_set(name: str, mark: Mark, sets: tuple[str, ...], unsets: tuple[str, ...]) -> PathSet | None:
    """None where only MongoDB itself knows what the paths mean. Raises DefinitionInvalid for reserved ones."""
    check_update(name, mark, operators(dict.fromkeys(sets), unsets) or {"$set": {}})
    paths = (*sets, *unsets)
    if not all(isinstance(path, str) for path in paths) or _clash(list(paths)):
        return None
    parts = {path: tuple(path.split(".")) for path in (*sorted(sets, key=_order), *unsets)}
    if any(not part or part[:1] == "$" for each in parts.values() for part in each):
        return None
    parents = tuple(dict.fromkeys(each[:-1] for each in parts.values()))
    leaves = [Leaf(path, parents.index(each[:-1]), each[:-1], each[-1]) for path, each in parts.items()]
    return PathSet(
        sets=tuple(leaves[: len(sets)]),
        unsets=tuple(leaves[len(sets) :]),
        parents=parents,
        tops=tuple(dict.fromkeys(each[0] for each in parts.values())),
        dotted=len(parents) > 1 or parents != ((),),
    )


def operators(sets: Mapping[str, Any], unsets: Iterable[str]) -> dict[str, Any]:
    found = {"$set": dict(sets), "$unset": dict.fromkeys(unsets, "")}
    return {operator: body for operator, body in found.items() if body}


def _order(path: str) -> list[tuple[bool, int, str]]:
    """The order in which MongoDB adds the fields of an update."""
    parts = path.split(".")
    return [
        (False, int(part), part) if part.isascii() and part.isdigit() else (True, 0, part) for part in parts
    ]


def _clash(paths: list[str]) -> bool:
    ordered = sorted(f"{path}." for path in paths)
    return any(longer.startswith(shorter) for shorter, longer in pairwise(ordered))


BLOCKED = object()  # something that is no document stands on the way to a path


def parent_of(before: dict[str, Any], parts: tuple[str, ...]) -> Any:
    """The document under `parts`, None where it is missing, or BLOCKED."""
    here: Any = before
    for part in parts:
        if part not in here:
            return None
        here = here[part]
        if not isinstance(here, dict):
            return BLOCKED
    return here
