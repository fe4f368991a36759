"""What a function returned, reduced to the smallest change of the document it was called for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import bson
from bson.errors import BSONError

from whimbrel.domain.marks import MARK_ROOT
from whimbrel.domain.migration import SKIP, Definition, check_update
from whimbrel.domain.raw import DOCUMENT_OPTIONS, Key, depth
from whimbrel.errors import DefinitionInvalid

SHALLOW_BYTES = 1000  # a document nested deeper than the limit below is longer than this
DEEPEST = 150  # MongoDB takes 180 to 200 levels; a guard and a literal around the document take some


class Rubbish(TypeError):
    """A function returned something that is no change."""


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The change would leave the document as it is."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """The function returned SKIP."""


@dataclass(frozen=True, slots=True)
class Row:
    """New values of whole top-level fields, as an encoded document, and fields to remove.

    Many of these travel in one statement, whatever their fields are.
    """

    values: bytes
    unset: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Paths:
    """Values of nested paths, where only declared reads are guarded and the rest may have moved on."""

    values: dict[str, Any]
    unset: tuple[str, ...] = ()

    @property
    def parents(self) -> tuple[str, ...]:
        """The paths that must still be documents when this is written."""
        found = {
            path[:at] for path in (*self.values, *self.unset) for at, char in enumerate(path) if char == "."
        }
        return tuple(sorted(found))


@dataclass(frozen=True, slots=True)
class Single:
    """An update that only MongoDB itself can carry out, one document at a time."""

    update: Mapping[str, Any] | Sequence[Mapping[str, Any]]


Change = Unchanged | Skipped | Row | Paths | Single


def reduce(definition: Definition, document: bytes, returned: Any) -> Change:
    """Reduce what the function returned for `document` (raw BSON).

    Raises Rubbish, with a sentence for the author, where it is no update, no document and not SKIP.
    """
    if returned is SKIP:
        return Skipped()
    try:
        if (
            isinstance(returned, Mapping)
            and returned
            and all(isinstance(key, str) and key[:1] == "$" for key in returned)
        ):
            return _of_update(definition, document, returned)
        if isinstance(returned, Mapping):
            return _of_document(definition, document, returned)
        if isinstance(returned, list) and returned and all(isinstance(stage, Mapping) for stage in returned):
            check_update(definition, returned)
            return Single(returned)
    except DefinitionInvalid as error:
        raise Rubbish(str(error)) from error
    except (BSONError, OverflowError, RecursionError) as error:
        raise Rubbish(f"The function returned a value that MongoDB cannot store: {error}.") from error
    raise Rubbish(
        f"The function returned {_name(returned)}: return an update, the changed document, or SKIP."
    )


def _name(returned: Any) -> str:
    return "None" if returned is None else f"{type(returned).__name__} ({returned!r:.60})"


def _of_document(definition: Definition, document: bytes, returned: Mapping[str, Any]) -> Change:
    before = bson.decode(document, DOCUMENT_OPTIONS)
    if "_id" not in returned or Key.of(returned["_id"]) != Key.of(before["_id"]):
        raise Rubbish(
            "The function returned a document without the _id of the one it was given. Return an update such as {'$set': ...}, the changed document with its _id, or SKIP."
        )
    values = {
        name: value for name, value in returned.items() if name != MARK_ROOT and not same(before, name, value)
    }
    unset = tuple(name for name in before if name not in returned and name != MARK_ROOT)
    for name in (*values, *unset):
        _refuse_reserved(definition, name)
    return _row(document, before, values, unset)


def _refuse_reserved(definition: Definition, name: str) -> None:
    if name in definition.marking.reserved:
        raise Rubbish(
            f"The function changed {name!r}, which Whimbrel writes itself to mark a document as done."
        )


def _row(document: bytes, before: dict[str, Any], values: dict[str, Any], unset: tuple[str, ...]) -> Change:
    if not values and not unset:
        return Unchanged()
    encoded = bson.encode(values)
    odd = any("." in name or name[:1] == "$" or not name for name in (*values, *unset))
    deep = len(document) + len(encoded) > SHALLOW_BYTES and max(depth(before), depth(values)) > DEEPEST
    if odd or deep:  # names that no path can express (hole H33), or no room around it (hole H34)
        after = {name: value for name, value in {**before, **values}.items() if name not in unset}
        return Single([{"$replaceWith": {"$literal": after}}])
    return Row(encoded, unset)


def _of_update(definition: Definition, document: bytes, update: Mapping[str, Any]) -> Change:
    check_update(definition, update)
    bson.encode(update)
    if not set(update) <= {"$set", "$unset"} or not all(
        isinstance(body, Mapping) for body in update.values()
    ):
        return Single(update)
    sets, unsets = dict(update.get("$set", {})), tuple(update.get("$unset", {}))
    paths = [*sets, *unsets]
    if _clash(paths) or any(not part or part[:1] == "$" for path in paths for part in path.split(".")):
        return Single(update)
    before = bson.decode(document, DOCUMENT_OPTIONS)
    dotted = any("." in path for path in paths)
    if not dotted:
        values = {name: value for name, value in sets.items() if not same(before, name, value)}
        return _row(document, before, values, tuple(name for name in unsets if name in before))
    if (
        any(_blocked(before, path) for path in paths)
        or bson.encode(before, codec_options=DOCUMENT_OPTIONS) != document
    ):
        return Single(
            update
        )  # an array on the way, or values that Python types would not bring back as they were
    return _nested(definition, document, before, sets, unsets)


def _nested(
    definition: Definition,
    document: bytes,
    before: dict[str, Any],
    sets: dict[str, Any],
    unsets: tuple[str, ...],
) -> Change:
    after = dict(before)
    for path, value in sets.items():
        _place(after, path.split("."), value)
    for path in unsets:
        _remove(after, path.split("."))
    tops = dict.fromkeys(path.partition(".")[0] for path in (*sets, *unsets))
    values = {top: after[top] for top in tops if top in after and not same(before, top, after[top])}
    unset = tuple(top for top in tops if top not in after and top in before)
    row = _row(document, before, values, unset)
    if definition.reads is None or isinstance(row, Unchanged | Single) or set(tops) <= set(definition.reads):
        return row
    # Fields beside the path are not guarded: write the path alone, and only under documents that are there.
    if any(_parent(before, path) is None for path in (*sets, *unsets)):
        return Single(
            {key: body for key, body in (("$set", sets), ("$unset", dict.fromkeys(unsets, ""))) if body}
        )
    return Paths(sets, unsets)


def same(before: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether a field has this value already: equal in Python, and in type and order too (1 == True == 1.0)."""
    if name not in before:
        return False
    old = before[name]
    return bool(old is value or old == value) and bson.encode({"": old}) == bson.encode({"": value})


def _clash(paths: list[str]) -> bool:
    ordered = sorted(f"{path}." for path in paths)
    return any(longer.startswith(shorter) for shorter, longer in pairwise(ordered))


def _blocked(before: dict[str, Any], path: str) -> bool:
    """Whether something that is no document stands on the way to `path`."""
    here: Any = before
    for part in path.split(".")[:-1]:
        if part not in here:
            return False
        here = here[part]
        if not isinstance(here, dict):
            return True
    return False


def _parent(before: dict[str, Any], path: str) -> dict[str, Any] | None:
    here: Any = before
    for part in path.split(".")[:-1]:
        here = here.get(part)
        if not isinstance(here, dict):
            return None
    return here if isinstance(here, dict) else None


def _place(after: dict[str, Any], parts: list[str], value: Any) -> None:
    """Set a nested value, copying what it changes: `after` shares the rest with the document as it was."""
    for part in parts[:-1]:
        after[part] = dict(after.get(part, {}))
        after = after[part]
    after[parts[-1]] = value


def _remove(after: dict[str, Any], parts: list[str]) -> None:
    for part in parts[:-1]:
        if part not in after:
            return
        after[part] = dict(after[part])
        after = after[part]
    after.pop(parts[-1], None)
