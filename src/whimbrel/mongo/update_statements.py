"""Builds the statements of an `update` command: fence, mark and guard together with the change, by columns.

One statement carries hundreds of different changes: the documents' keys, the documents as they were read
and the new values are constant arrays, and each document finds its own by the position of its `_id`.
`_id: {$in: keys}` and never a range selects them: a document that is not among the keys has position -1,
which is the *last* element (hole H32). Every value is under `$literal` (hole H33).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bson.raw_bson import RawBSONDocument

from whimbrel.domain.bson.raw_bson import (
    Key,
    document,
    element,
    elements,
    keys_under,
    literal_documents,
    literal_keys,
)
from whimbrel.domain.migrations.changes import Paths, Row, Single, Skipped, Unchanged, Whole
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.migrations.marks import CHANGED, SKIPPED, UNCHANGED, stamp
from whimbrel.domain.migrations.updates import Update
from whimbrel.mongo.before_images import of_update, with_before_image
from whimbrel.mongo.ranges import BY_ID, Hint
from whimbrel.ports import GuardedChange, Write

# The names that `$type` gives the types of BSON.
TYPE_NAMES: dict[int | None, str] = {
    None: "missing", 0x01: "double", 0x02: "string", 0x03: "object", 0x04: "array", 0x05: "binData", 0x06: "undefined",
    0x07: "objectId", 0x08: "bool", 0x09: "date", 0x0A: "null", 0x0B: "regex", 0x0C: "dbPointer", 0x0D: "javascript",
    0x0E: "symbol", 0x0F: "javascriptWithScope", 0x10: "int", 0x11: "timestamp", 0x12: "long", 0x13: "decimal",
    0x7F: "maxKey", 0xFF: "minKey",
}  # fmt: skip

SIMPLE = {"locale": "simple"}
Statement = dict[str, Any]


def fence(until: datetime) -> dict[str, Any]:
    """Returns a condition that is true until the server's clock passes the end of the lease."""
    return {"$lt": ["$$NOW", until]}


def plain(query: Mapping[str, Any], update: Update, *, multi: bool, hint: Hint) -> Statement:
    """Returns a statement of a user's conditions and changes, with the collection's collation."""
    return {"q": query, "u": update, "multi": multi, "hint": hint}


def of_keys(keys: Sequence[Key], update: Update, write: Write, *, multi: bool) -> Statement:
    """Returns a statement on those of these documents that are eligible."""
    query = all_of({"_id": keys_under("$in", keys)}, write.eligible, {"$expr": fence(write.until)})
    return plain(query, update, multi=multi, hint=BY_ID)


def marked(update: Update, write: Write, outcome: str = CHANGED) -> Update:
    """Returns an update that also sets the mark of `outcome`."""
    value = stamp(write.token, outcome)
    if write.undo is not None:
        return of_update(update, write, write.mark.expression(value), write.undo)
    if isinstance(update, Mapping):
        fields = write.mark.fields(value)
        return {**update, "$set": {**update.get("$set", {}), **fields}} if fields else update
    expression = write.mark.expression(value)
    return [*update, {"$set": expression}] if expression else list(update)


def traced(fields: Mapping[str, Any], write: Write) -> Update:
    """Returns an update that sets the fields of a failed document."""
    if write.undo is None:
        return {"$set": fields}
    stages = [{"$set": {name: {"$literal": value} for name, value in fields.items()}}]
    return with_before_image(stages, tuple(fields), write, write.undo, ordered=False)


def outcome_of(guarded: GuardedChange) -> str:
    if isinstance(guarded.change, Unchanged):
        return UNCHANGED
    return SKIPPED if isinstance(guarded.change, Skipped) else CHANGED


def shape(guarded: GuardedChange, *, named: bool) -> tuple[Any, ...]:
    """Returns what documents of one statement have in common. `named`: also the names of the fields that they change."""
    change = guarded.change
    if isinstance(change, Paths):
        return "paths", tuple(change.values), change.unset
    if isinstance(change, Row):
        names = change.names if named else bool(change.values[5:])
        return "row", change.unset, names
    if isinstance(change, Whole):
        return ("whole",)
    return (outcome_of(guarded),)


def columnar(group: Sequence[GuardedChange], write: Write, *, collated: bool = False) -> Statement:
    """Returns one statement for up to a few hundred documents of one shape, compared byte by byte.

    `$indexOfArray` is linear, so larger statements get slower than more statements.

    `collated`: the collection has a collation of its own. One statement has one collation, so the filter cannot be combined with
    the guard: the guard is the whole document, which satisfied the filter when it was read.
    """
    keys = [guarded.key for guarded in group]
    position = {"$indexOfArray": [literal_keys(keys), "$_id"]}
    if collated:
        write = replace(write, reads=None)
    query = _query(group, write, position, keys)
    return plain(query, _pipeline(group, write, position), multi=True, hint=BY_ID) | {"collation": SIMPLE}


def single(guarded: GuardedChange, write: Write, *, mark: bool = True, collated: bool = False) -> Statement:
    """Returns one document's statement: for changes that only MongoDB can carry out, and to find out which document is refused.

    Such a change may compare (`$pull`, `$max`), by the collection's collation. If the collection has its own (`collated`), the
    guard would not see that "de" became "DE"; the schema does, which compares byte by byte and ignores only the order of
    fields.
    """
    change = guarded.change
    if not isinstance(change, Single):
        return columnar([guarded], write, collated=collated)
    update = marked(change.update, write) if mark else change.update
    if not collated:
        query = _query([guarded], write, {"$literal": 0}, [guarded.key])
        return plain(query, update, multi=False, hint=BY_ID)
    query = _query([guarded], replace(write, reads=None), {"$literal": 0}, [guarded.key])
    exact = {"$jsonSchema": {"enum": [RawBSONDocument(guarded.document)]}}
    return plain(all_of(query, exact), update, multi=False, hint=BY_ID)


def _query(
    group: Sequence[GuardedChange], write: Write, position: dict[str, Any], keys: Sequence[Key]
) -> Statement:
    change = group[0].change
    exact = write.reads is None or (isinstance(change, Single) and change.whole)
    guards = _exact_guards(group, position) if exact else _read_guards(group, write.reads or (), position)
    query: Statement = {"_id": keys_under("$in", keys), "$expr": {"$and": [fence(write.until), *guards]}}
    # Other fields may have changed since it was read, and have made it ineligible.
    return query if exact else {"$and": [query, write.eligible]}


def _exact_guards(group: Sequence[GuardedChange], position: dict[str, Any]) -> list[dict[str, Any]]:
    originals = literal_documents(guarded.document for guarded in group)
    sizes = {"$literal": [len(guarded.document) for guarded in group]}
    # Equal documents of different size hold a number of another type (hole H30).
    return [
        {"$eq": [{"$bsonSize": "$$ROOT"}, {"$arrayElemAt": [sizes, position]}]},
        {"$eq": ["$$ROOT", {"$arrayElemAt": [originals, position]}]},
    ]


def _read_guards(
    group: Sequence[GuardedChange], reads: Sequence[str], position: dict[str, Any]
) -> list[dict[str, Any]]:
    """Returns conditions that the declared fields have not changed in value, type or presence."""
    fields_as_read = literal_documents(read_fields(guarded.document, reads) for guarded in group)
    declared = {"$eq": [_read_expression(reads), {"$arrayElemAt": [fields_as_read, position]}]}
    return [declared, *(_is_document(path) for path in _parents(group))]


def _parents(group: Sequence[GuardedChange]) -> tuple[str, ...]:
    change = group[0].change
    return change.parents if isinstance(change, Paths) else ()


def _is_document(path: str) -> dict[str, Any]:
    return {"$eq": [{"$type": f"${path}"}, "object"]}


def _read_expression(reads: Sequence[str]) -> dict[str, Any]:
    now = {f"v{index}": f"${name}" for index, name in enumerate(reads)}
    types = {f"t{index}": {"$type": f"${name}"} for index, name in enumerate(reads)}
    return {**now, **types}


def read_fields(raw: bytes, reads: Sequence[str]) -> bytes:
    """Returns the declared fields of a raw document in the form of `_read_expression`: values, then types.

    A missing field has no value, and the type "missing", as `$type` says.
    """
    fields = elements(raw)
    values, types = [], []
    for index, name in enumerate(reads):
        kind, payload = fields.get(name.encode(), (None, b""))
        if kind is not None:
            values.append(element(kind, b"v%d" % index, payload))
        word = TYPE_NAMES[kind].encode()
        types.append(element(0x02, b"t%d" % index, (len(word) + 1).to_bytes(4, "little") + word + b"\0"))
    return bytes(document([*values, *types]).raw)


def _pipeline(
    group: Sequence[GuardedChange], write: Write, position: dict[str, Any]
) -> list[Mapping[str, Any]]:
    change = group[0].change
    stages = _stages(group, write, position)
    if write.undo is None:
        return stages
    fields: tuple[str, ...] = ()
    removing = False
    if isinstance(change, Row):
        fields, removing = (*change.names, *change.unset), bool(change.unset)
    elif isinstance(change, Paths):
        fields, removing = change.fields, False
    return with_before_image(stages, fields, write, write.undo, ordered=removing)


def _stages(
    group: Sequence[GuardedChange], write: Write, position: dict[str, Any]
) -> list[Mapping[str, Any]]:
    change, mark = group[0].change, write.mark.expression(stamp(write.token, outcome_of(group[0])))
    if isinstance(change, Whole):
        return [
            {
                "$replaceWith": {
                    "$arrayElemAt": [
                        literal_documents(_as_whole(guarded).document for guarded in group),
                        position,
                    ]
                }
            }
        ]
    if isinstance(change, Paths):
        columns = {
            path: {
                "$arrayElemAt": [
                    {"$literal": [_as_paths(guarded).values[path] for guarded in group]},
                    position,
                ]
            }
            for path in change.values
        }
        removed = [{"$unset": list(change.unset)}] if change.unset else []
        stages = [{"$set": columns}] if columns else []
        return [*stages, *removed, *([{"$set": mark}] if mark else [])]
    if not isinstance(change, Row):
        return [{"$set": mark}]
    own_values = {"$arrayElemAt": [literal_documents(_as_row(guarded).values for guarded in group), position]}
    merged: list[Any] = ["$$ROOT", own_values] if change.values[5:] else ["$$ROOT"]
    removed = [{"$unset": list(change.unset)}] if change.unset else []
    return [*removed, {"$replaceWith": {"$mergeObjects": [*merged, mark] if mark else merged}}]


def _as_whole(guarded: GuardedChange) -> Whole:
    if not isinstance(guarded.change, Whole):
        raise TypeError(guarded.change)
    return guarded.change


def _as_row(guarded: GuardedChange) -> Row:
    if not isinstance(guarded.change, Row):
        raise TypeError(guarded.change)
    return guarded.change


def _as_paths(guarded: GuardedChange) -> Paths:
    if not isinstance(guarded.change, Paths):
        raise TypeError(guarded.change)
    return guarded.change
