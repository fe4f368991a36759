"""Reduces what a function returned to the smallest change of the document it was called for."""

from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import bson
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from whimbrel.domain.bson.raw_bson import Key, has_repeated_fields, iterate_fields, repeated_fields, spliced
from whimbrel.domain.bson.uuids import Options, reading, stored, writing
from whimbrel.domain.failures.failure import FailureKind
from whimbrel.domain.migrations.changes import Change, Paths, Row, Single, Skipped, Unchanged
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.marks import MARK_ROOT
from whimbrel.domain.migrations.migration import SKIP
from whimbrel.domain.migrations.pipelines import as_pipeline
from whimbrel.domain.migrations.update_paths import BLOCKED, Leaf, PathSet, operators, parent_of, path_set
from whimbrel.domain.migrations.updates import check_update
from whimbrel.domain.text.safe_text import shown_value, type_name
from whimbrel.errors import DefinitionInvalid, Untranslatable


class UnusableAnswer(TypeError):
    """A function returned something that is not a change."""

    kind: ClassVar[FailureKind] = FailureKind.CODE


class Unwritable(UnusableAnswer):
    """A change that MongoDB cannot carry out on this document, whatever the function returns next time."""

    kind = FailureKind.DATA


def smallest_change(
    definition: Definition, document: bytes, returned: Any, argument: dict[str, Any] | None = None
) -> Change:
    """Reduces what the function returned for `document` (raw BSON) to the smallest change.

    `argument` is what the function got, which it may have changed; it only saves decoding again. Raises UnusableAnswer, with a sentence for the author,
    where `returned` is not an update, not a document and not SKIP.
    """
    if returned is SKIP:
        _refuse_repeated_marks(definition, document)
        return Skipped()
    try:
        if type(returned) is dict or isinstance(returned, Mapping):
            seen = _Seen.of(document, argument, definition.uuids)
            if not seen.faithful:
                _refuse_repeated_marks(definition, document)
                _refuse_undo(definition, document)
            if returned and all(str(key)[:1] == "$" for key in returned):
                return _of_update(definition, seen, returned)
            return _of_document(definition, seen, returned)
        if isinstance(returned, list) and returned and all(isinstance(stage, Mapping) for stage in returned):
            return _of_pipeline(definition, document, returned)
    except (DefinitionInvalid, Untranslatable) as error:
        raise UnusableAnswer(str(error)) from error
    except (BSONError, OverflowError, RecursionError, ValueError) as error:
        raise UnusableAnswer(
            f"The function returned a value that MongoDB cannot store: {error!s:.500}."
        ) from error
    raise UnusableAnswer(
        f"The function returned {_name(returned)}: return an update, the changed document, or SKIP.{_hint(returned)}"
    )


class _Seen(NamedTuple):
    """A document before the change. `faithful`: Python's types bring it back unchanged. `options`: how values are stored."""

    raw: bytes
    fields: dict[str, Any]
    faithful: bool
    options: Options

    @classmethod
    def of(cls, raw: bytes, argument: dict[str, Any] | None, uuids: str) -> "_Seen":
        """Uses what the function got, if that still is the document; otherwise decodes it again."""
        options = writing(uuids)
        try:
            if argument is not None and bson.encode(argument, codec_options=options) == raw:
                return cls(raw, argument, faithful=True, options=options)
        # The function left something odd in it.
        except (BSONError, OverflowError, RecursionError, ValueError):
            pass
        fields = bson.decode(raw, reading(uuids))
        faithful = bson.encode(fields, codec_options=options) == raw
        return cls(raw, fields, faithful=faithful, options=options)

    def holds(self, name: str, value: Any) -> bool:
        return has_same_value(self.fields, name, value, self.options)

    def holds_exactly(self, name: str, value: Any) -> bool:
        """Compares MongoDB's type too: undefined and null are the same in Python, and so are a symbol and a text."""
        has_value = self.holds(name, value)
        if self.faithful or not has_value:
            return has_value
        [wanted] = iterate_fields(bson.encode({name: value}, codec_options=self.options))
        return wanted in iterate_fields(self.raw)


def _name(returned: Any) -> str:
    return "None" if returned is None else f"{type_name(returned)} ({shown_value(returned, 60)})"


def _hint(returned: Any) -> str:
    """Returns what the author may have meant."""
    if returned is None:
        return " A document that the function changes itself is returned too."
    if isinstance(returned, Iterator | AsyncIterator):
        return " A function with `yield` in it only makes a generator: write `return`."
    if isinstance(returned, Awaitable):
        return " What it returned was never awaited: make the function itself an `async def`."
    return ""


def _of_document(definition: Definition, seen: _Seen, returned: Mapping[str, Any]) -> Change:
    before = seen.fields
    if "_id" not in returned or Key.of(returned["_id"], seen.options) != Key.of(before["_id"], seen.options):
        raise UnusableAnswer(
            "The function returned a document without the _id of the one it was given. Return an update such as {'$set': ...}, the changed document with its _id, or SKIP."
        )
    for name in returned:
        if not isinstance(name, str):
            raise UnusableAnswer(
                f"The function returned a document with the field name {shown_value(name, 60)}: names of fields are text."
            )
    values = {
        name: value for name, value in returned.items() if name != MARK_ROOT and not seen.holds(name, value)
    }
    unset = tuple(name for name in before if name not in returned and name != MARK_ROOT)
    reserved = definition.marking.reserved
    for name in (*values, *unset):
        if name in reserved:
            raise UnusableAnswer(
                f"The function changed {name!r}, which Whimbrel writes itself to mark a document as done."
            )
    inexpressible = any("." in name or name[:1] == "$" or not name for name in (*values, *unset))
    return _row(seen, values, unset, inexpressible=inexpressible)


def _row(
    seen: _Seen, values: dict[str, Any], unset: tuple[str, ...], *, inexpressible: bool = False
) -> Change:
    """Returns the change of whole top-level fields. `inexpressible`: with names that no path can express."""
    if not values and not unset:
        return Unchanged()
    encoded = bson.encode(values, codec_options=seen.options)
    if not seen.faithful:
        # By columns, other fields would be reordered: the second of two fields of one name would be dropped.
        for name in (*values, *unset):
            _refuse_repeated(seen.raw, name)
        if not inexpressible:
            return Single(operators(stored(values, seen.options), unset))
        if has_repeated_fields(seen.raw):
            raise Unwritable(
                "The document holds a field name twice, and the change is one of a field whose name no update can express. Repair the document first."
            )
    if inexpressible:  # hole H33
        return Single([{"$replaceWith": {"$literal": spliced(seen.raw, encoded, unset)}}], whole=True)
    return Row(encoded, unset)


def _refuse_repeated_marks(definition: Definition, document: bytes) -> None:
    for name in definition.marking.reserved:
        _refuse_repeated(document, name)


def _refuse_repeated(document: bytes, name: str) -> None:
    """Refuses, because MongoDB 6.0 aborts (the server, not the statement) when a pipeline changes one of two fields of the same name."""
    wanted = name.encode()
    if document.count(wanted + b"\0") > 1 and wanted in repeated_fields(document):
        raise Unwritable(
            f"The document holds the field {name!r} more than once, and MongoDB cannot change such a field safely. Repair the document first."
        )


def _refuse_undo(definition: Definition, document: bytes) -> None:
    if definition.undo and has_repeated_fields(document):
        raise Unwritable(
            "The document holds a field name twice, and MongoDB cannot keep a before-image of it safely. Repair the document first, or run without undo."
        )


def _of_pipeline(definition: Definition, document: bytes, stages: Sequence[Mapping[str, Any]]) -> Change:
    check_update(definition.name, definition.marking, stages)
    stages = stored(stages, writing(definition.uuids))
    if has_repeated_fields(document):
        raise Unwritable(
            "The document holds a field name twice, and MongoDB cannot carry out a pipeline on it safely. Repair the document first."
        )
    return Single(_copied(stages))


def _of_update(definition: Definition, seen: _Seen, update: Mapping[str, Any]) -> Change:
    sets, unsets = update.get("$set", {}), update.get("$unset", {})
    if not (update.keys() <= SETTING and isinstance(sets, Mapping) and isinstance(unsets, Mapping)):
        check_update(definition.name, definition.marking, update)
        return _single(definition, update)
    paths = path_set(definition.name, definition.marking, tuple(sets), tuple(unsets))
    if paths is None:
        return _single(definition, update)
    parents = [parent_of(seen.fields, parts) for parts in paths.parents]
    # An array is on the way, or Python's types would not bring the values back.
    if paths.dotted and (not seen.faithful or BLOCKED in parents):
        return _single(definition, update)
    row = _row(seen, *_fields(seen, paths, parents, sets))
    if definition.reads is None or not isinstance(row, Row) or paths.nested <= set(definition.reads):
        return row
    # Fields beside the path are not guarded: write the path alone, and only under existing documents.
    if None in parents:
        return _single(definition, update)
    values = stored({step.path: _copied(sets[step.path]) for step in paths.sets}, seen.options)
    return Paths(values, tuple(step.path for step in paths.unsets))


SETTING = frozenset({"$set", "$unset"})


def _single(definition: Definition, update: Mapping[str, Any]) -> Single:
    update = stored(update, writing(definition.uuids))
    if definition.undo:
        as_pipeline(update)  # it will be written as a pipeline, with the before-image
    return Single(_copied(update))


def _copied(value: Any) -> Any:
    """Copies what a function returned: the function may reuse the same objects for its next document."""
    if isinstance(value, Mapping) and not isinstance(value, RawBSONDocument):
        return {name: _copied(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(inner) for inner in value]
    return value


def _fields(
    seen: _Seen, paths: PathSet, parents: list[Any], sets: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns the top-level fields that the update gives new values, and those that it removes."""
    before = seen.fields
    values: dict[str, Any] = {}
    removed: list[str] = []
    for top, replaced, leaves, unsets in paths.fields:
        if not replaced:
            after = _nested(seen, top, (leaves, unsets), parents, sets)
            if after is not None:
                values[top] = after
        elif unsets:
            if top in before:
                removed.append(top)
        elif not seen.holds_exactly(top, sets[top]):
            values[top] = sets[top]
    return values, tuple(removed)


def _nested(
    seen: _Seen,
    top: str,
    leaves: tuple[tuple[Leaf, ...], tuple[Leaf, ...]],
    parents: list[Any],
    sets: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Returns the field `top` after its paths are set and unset, copied as far as it changes. None where it does not change."""
    before = seen.fields
    after: dict[str, Any] | None = None
    for path, parent, inner_path, name in leaves[0]:
        holder, value = parents[parent], sets[path]
        if holder is None or not has_same_value(holder, name, value, seen.options):
            after = dict(before.get(top, {})) if after is None else after
            _copied_holder(after, inner_path)[name] = value
    for _, parent, inner_path, name in leaves[1]:
        holder = parents[parent]
        if holder is not None and name in holder:
            after = dict(before[top]) if after is None else after
            del _copied_holder(after, inner_path)[name]
    return after


def _copied_holder(after: dict[str, Any], inner_path: tuple[str, ...]) -> dict[str, Any]:
    """Returns the document under `inner_path`, copied on the way: `after` shares everything else with the original document."""
    for part in inner_path:
        after[part] = after = dict(after.get(part, {}))
    return after


def has_same_value(before: Mapping[str, Any], name: str, value: Any, options: Options) -> bool:
    """Whether a field has this value already, in type and order too (1 == True == 1.0 in Python)."""
    if name not in before:
        return False
    old = before[name]
    if type(old) is type(value) and type(value) in PLAIN:
        return bool(old == value)
    return bson.encode({"": old}, codec_options=options) == bson.encode({"": value}, codec_options=options)


PLAIN = frozenset({str, int, bool})  # equal values of one of these types have the same bytes
