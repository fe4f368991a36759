"""What a function returned, reduced to the smallest change of the document it was called for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, ClassVar

import bson
from bson.errors import BSONError

from whimbrel.domain.failures import Kind
from whimbrel.domain.marks import MARK_ROOT, Mark
from whimbrel.domain.migration import SKIP, Definition
from whimbrel.domain.raw import DOCUMENT_OPTIONS, Key, repeated, repeats, spliced
from whimbrel.domain.updates import check_update
from whimbrel.errors import DefinitionInvalid


class Rubbish(TypeError):
    """A function returned something that is no change."""

    kind: ClassVar[Kind] = Kind.CODE


class Unwritable(Rubbish):
    """A change that MongoDB cannot carry out on this document, whatever the function does next time."""

    kind = Kind.DATA


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
    """An update that only MongoDB itself can carry out, one document at a time.

    `whole`: it replaces the whole document, so declared reads are not enough of a guard.
    """

    update: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    whole: bool = False


Change = Unchanged | Skipped | Row | Paths | Single


def reduce(
    definition: Definition, document: bytes, returned: Any, given: dict[str, Any] | None = None
) -> Change:
    """Reduce what the function returned for `document` (raw BSON) to the smallest change.

    `given` is what the function got, which it may have changed; it only saves decoding again. Raises Rubbish, with a sentence for the author,
    where `returned` is no update, no document and not SKIP.
    """
    for name in definition.marking.reserved:
        _refuse_repeated(document, name)
    if returned is SKIP:
        return Skipped()
    try:
        if isinstance(returned, Mapping):
            update = bool(returned) and all(str(key)[:1] == "$" for key in returned)
            return (_of_update if update else _of_document)(definition, _Seen.of(document, given), returned)
        if isinstance(returned, list) and returned and all(isinstance(stage, Mapping) for stage in returned):
            return _of_pipeline(definition, document, returned)
    except DefinitionInvalid as error:
        raise Rubbish(str(error)) from error
    except (BSONError, OverflowError, RecursionError, ValueError) as error:
        raise Rubbish(f"The function returned a value that MongoDB cannot store: {error!s:.500}.") from error
    raise Rubbish(
        f"The function returned {_name(returned)}: return an update, the changed document, or SKIP."
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A document before the change. `faithful`: Python's types bring it back as it was."""

    raw: bytes
    fields: dict[str, Any]
    faithful: bool

    @classmethod
    def of(cls, raw: bytes, given: dict[str, Any] | None) -> "_Seen":
        """Of what the function got, if that still is the document; else it is decoded again."""
        try:
            if given is not None and bson.encode(given, codec_options=DOCUMENT_OPTIONS) == raw:
                return cls(raw, given, faithful=True)
        except (
            BSONError,
            OverflowError,
            RecursionError,
            ValueError,
        ):  # the function left something odd in it
            pass
        fields = bson.decode(raw, DOCUMENT_OPTIONS)
        return cls(raw, fields, faithful=bson.encode(fields, codec_options=DOCUMENT_OPTIONS) == raw)


def _name(returned: Any) -> str:
    return "None" if returned is None else f"{type(returned).__name__} ({returned!r:.60})"


def _of_document(definition: Definition, seen: _Seen, returned: Mapping[str, Any]) -> Change:
    before = seen.fields
    if "_id" not in returned or Key.of(returned["_id"]) != Key.of(before["_id"]):
        raise Rubbish(
            "The function returned a document without the _id of the one it was given. Return an update such as {'$set': ...}, the changed document with its _id, or SKIP."
        )
    values = {
        name: value for name, value in returned.items() if name != MARK_ROOT and not same(before, name, value)
    }
    unset = tuple(name for name in before if name not in returned and name != MARK_ROOT)
    reserved = definition.marking.reserved
    for name in (*values, *unset):
        if name in reserved:
            raise Rubbish(
                f"The function changed {name!r}, which Whimbrel writes itself to mark a document as done."
            )
    return _row(seen, values, unset)


def _row(seen: _Seen, values: dict[str, Any], unset: tuple[str, ...]) -> Change:
    """The change of whole top-level fields."""
    if not values and not unset:
        return Unchanged()
    encoded = bson.encode(values)
    odd = any("." in name or name[:1] == "$" or not name for name in (*values, *unset))
    if not seen.faithful:
        # By columns, the rest of it would be brought into order: the second of two fields of one name dropped.
        for name in (*values, *unset):
            _refuse_repeated(seen.raw, name)
        if not odd:
            return Single(_operators(values, unset))
        if repeats(seen.raw):
            raise Unwritable(
                "The document holds a field name twice, and the change is one of a field whose name no update can express. Repair the document first."
            )
    if odd:  # names that no path can express (hole H33)
        return Single([{"$replaceWith": {"$literal": spliced(seen.raw, encoded, unset)}}], whole=True)
    return Row(encoded, unset)


def _operators(sets: Mapping[str, Any], unsets: Iterable[str]) -> dict[str, Any]:
    found = {"$set": dict(sets), "$unset": dict.fromkeys(unsets, "")}
    return {operator: body for operator, body in found.items() if body}


def _refuse_repeated(document: bytes, name: str) -> None:
    """MongoDB 6.0 aborts (the server, not the statement) when a pipeline changes one of two fields of the same name."""
    wanted = name.encode()
    if document.count(wanted + b"\0") > 1 and wanted in repeated(document):
        raise Unwritable(
            f"The document holds the field {name!r} more than once, and MongoDB cannot change such a field safely. Repair the document first."
        )


def _of_pipeline(definition: Definition, document: bytes, stages: Sequence[Mapping[str, Any]]) -> Change:
    check_update(definition.name, definition.marking, stages)
    bson.encode({"": stages})
    if repeats(document):
        raise Unwritable(
            "The document holds a field name twice, and MongoDB cannot carry out a pipeline on it safely. Repair the document first."
        )
    return Single(stages)


def _of_update(definition: Definition, seen: _Seen, update: Mapping[str, Any]) -> Change:
    sets, unsets = update.get("$set", {}), update.get("$unset", {})
    known = update.keys() <= {"$set", "$unset"} and isinstance(sets, Mapping) and isinstance(unsets, Mapping)
    if not known or not all(isinstance(path, str) for path in (*sets, *unsets)):
        check_update(definition.name, definition.marking, update)
        return _single(update)
    paths = _paths(definition.name, definition.marking, tuple(sets), tuple(unsets))
    if paths is None:
        return _single(update)
    if not paths.dotted:
        values = {name: sets[name] for name in paths.sets if not same(seen.fields, name, sets[name])}
        return _row(seen, values, tuple(name for name in unsets if name in seen.fields))
    parents = {path: _parent(seen.fields, parts) for path, parts in paths.parts.items()}
    if not seen.faithful or BLOCKED in parents.values():
        return _single(update)  # an array on the way, or values that Python's types would not bring back
    return _nested(definition, seen, paths, sets, parents)


def _single(update: Mapping[str, Any]) -> Single:
    bson.encode(update)
    return Single(update)


@dataclass(frozen=True, slots=True)
class _PathSet:
    """What the paths of an update say, whatever its values are: worked out once for all documents."""

    sets: tuple[str, ...]  # in the order in which MongoDB adds fields
    unsets: tuple[str, ...]
    parts: Mapping[str, tuple[str, ...]]
    tops: tuple[str, ...]
    dotted: bool


@lru_cache(maxsize=256)
def _paths(name: str, mark: Mark, sets: tuple[str, ...], unsets: tuple[str, ...]) -> _PathSet | None:
    """None where only MongoDB itself knows what the paths mean. Raises DefinitionInvalid for reserved ones."""
    check_update(name, mark, _operators(dict.fromkeys(sets), unsets) or {"$set": {}})
    paths = (*sets, *unsets)
    parts = {path: tuple(path.split(".")) for path in paths}
    if _clash(list(paths)) or any(not part or part[:1] == "$" for each in parts.values() for part in each):
        return None
    return _PathSet(
        sets=tuple(sorted(sets, key=_order)),
        unsets=unsets,
        parts=parts,
        tops=tuple(
            dict.fromkeys(
                each[0]
                for each in (*map(parts.get, sorted(sets, key=_order)), *map(parts.get, unsets))
                if each
            )
        ),
        dotted=any(len(each) > 1 for each in parts.values()),
    )


def _nested(
    definition: Definition, seen: _Seen, paths: _PathSet, sets: Mapping[str, Any], parents: Mapping[str, Any]
) -> Change:
    changed = {
        paths.parts[path][0]
        for path in paths.sets
        if not _set_already(parents[path], paths.parts[path][-1], sets[path])
    }
    changed |= {
        paths.parts[path][0]
        for path in paths.unsets
        if parents[path] and paths.parts[path][-1] in parents[path]
    }
    if not changed:
        return Unchanged()
    after = dict(seen.fields)
    for path in paths.sets:
        _place(after, paths.parts[path], sets[path])
    for path in paths.unsets:
        _remove(after, paths.parts[path])
    values = {top: after[top] for top in paths.tops if top in changed and top in after}
    unset = tuple(top for top in paths.tops if top not in after and top in seen.fields)
    row = _row(seen, values, unset)
    if definition.reads is None or isinstance(row, Single) or set(paths.tops) <= set(definition.reads):
        return row
    # Fields beside the path are not guarded: write the path alone, and only under documents that are there.
    if None in parents.values():
        return _single(_operators(sets, paths.unsets))
    return Paths({path: sets[path] for path in paths.sets}, paths.unsets)


def same(before: Mapping[str, Any], name: str, value: Any) -> bool:
    """Whether a field has this value already, in type and order too (1 == True == 1.0 in Python)."""
    if name not in before:
        return False
    old = before[name]
    if type(old) is type(value) and type(value) in PLAIN:
        return bool(old == value)
    return bson.encode({"": old}) == bson.encode({"": value})


PLAIN = frozenset({str, int, bool})  # equal values of one of these types have the same bytes


def _set_already(parent: Any, name: str, value: Any) -> bool:
    return parent is not None and same(parent, name, value)


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


def _parent(before: dict[str, Any], parts: tuple[str, ...]) -> Any:
    """The document that holds the last part of a path, None where it is missing, or BLOCKED."""
    here: Any = before
    for part in parts[:-1]:
        if part not in here:
            return None
        here = here[part]
        if not isinstance(here, dict):
            return BLOCKED
    return here


def _place(after: dict[str, Any], parts: tuple[str, ...], value: Any) -> None:
    """Set a nested value, copying what it changes: `after` shares the rest with the document as it was."""
    for part in parts[:-1]:
        after[part] = dict(after.get(part, {}))
        after = after[part]
    after[parts[-1]] = value


def _remove(after: dict[str, Any], parts: tuple[str, ...]) -> None:
    for part in parts[:-1]:
        if part not in after:
            return
        after[part] = dict(after[part])
        after = after[part]
    after.pop(parts[-1], None)
