"""The before-image of a document: what undo needs, kept in the document itself, beside the mark.

It is written by the statement that makes the change, so that it can neither be stale nor belong to another
change (holes H40 and H41). It holds the fields that the change touches as they were, and as they became: a
document is put back only where they still are what the change made of them.

An image is a document under `_whimbrel.<name>_v<version>_undo`:

    token   the batch that made the change, `<run>.<seq>`
    fields  the top-level fields that were touched; absent where that may be any
    whole   true where any other change since is a conflict too (`undo="document"`)
    before  the touched fields as they were, without those that were absent; all fields where it is whole
    after   the touched fields as the change left them
    keys    the names of all fields in their order, where the change could remove one
    prior   an image of an earlier run that was stored here
    root    true where the document had a field `_whimbrel` with nothing in it
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from whimbrel.domain.bson.raw_bson import (
    ARRAY,
    DOCUMENT,
    STRING,
    by_name,
    document,
    element,
    elements,
    iterate_fields,
)
from whimbrel.domain.migrations.marks import MARK_ROOT, marker_field

ROOT = MARK_ROOT.encode()

Value = tuple[int, bytes]
Fields = dict[bytes, Value]
InOrder = Sequence[tuple[bytes, int, bytes]]


class ChangedSince(Exception):
    """The application has changed the document since: `fields` are those that differ from what the change left."""

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(", ".join(fields))
        self.fields = tuple(fields)


class Unreadable(Exception):
    """The document holds no usable image: the application has written something else there."""


def image_field(migration: str, version: int) -> str:
    """Returns the name of the image's field under the mark's root."""
    return f"{marker_field(migration, version)}_undo"


def of_run(token: str, run_id: str) -> dict[str, Any]:
    """Returns the expression that the text at a path, such as `$field.token`, is a token of this run; false where it is not a text."""
    text = {"$cond": [{"$eq": [{"$type": token}, "string"]}, token, ""]}
    return {"$eq": [{"$substrBytes": [text, 0, len(run_id) + 1]}, f"{run_id}."]}


def image_path(migration: str, version: int) -> str:
    return f"{MARK_ROOT}.{image_field(migration, version)}"


@dataclass(frozen=True, slots=True)
class UndoStages:
    """How a run keeps before-images: the name of their field, the run that they belong to, and whether they hold all fields."""

    field: str
    run: str
    whole: bool


@dataclass(frozen=True, slots=True)
class Image:
    """An image as it is stored in a raw document."""

    token: str
    fields: frozenset[bytes] | None
    whole: bool
    before: Fields
    after: Fields
    keys: tuple[bytes, ...] | None
    prior: Value | None
    root: bool

    @classmethod
    def of(cls, payload: bytes) -> "Image":
        """Reads an image. Raises Unreadable where it is not one."""
        parts = elements(payload)
        try:
            names = parts.get(b"fields")
            keys = parts.get(b"keys")
            return cls(
                token=_text(parts[b"token"]),
                fields=None if names is None else frozenset(_names(names)),
                whole=parts.get(b"whole") is not None,
                before=elements(_document(parts[b"before"])),
                after=elements(_document(parts[b"after"])),
                keys=None if keys is None else tuple(_names(keys)),
                prior=parts.get(b"prior"),
                root=parts.get(b"root") is not None,
            )
        except (KeyError, ValueError) as error:
            raise Unreadable(str(error)) from error

    def changed(self, now: Fields) -> list[str]:
        """Returns the fields of a document that differ from what the change left."""
        names = {*self.after, *now, *self.before} if self.fields is None or self.whole else set(self.fields)
        return sorted(
            name.decode("utf-8", "replace")
            for name in names - {ROOT}
            if now.get(name) != (self.after if self.touches(name) else self.before).get(name)
        )

    def touches(self, name: bytes) -> bool:
        """Whether the change could touch this field."""
        return self.fields is None or name in self.fields


def restored_document(raw: bytes, migration: str, version: int) -> bytes:
    """Returns the document as it was before the change that its image describes, byte for byte, and without our marks of it.

    Fields that the change did not touch stay as they are, even if the application has changed them. Raises ChangedSince where
    the application has changed the touched ones, Unreadable where there is no image.
    """
    fields = tuple(iterate_fields(raw))
    now = by_name(fields)
    kind, marks = now.get(ROOT, (0, b""))
    stored = elements(marks).get(image_field(migration, version).encode()) if kind == DOCUMENT else None
    if stored is None or stored[0] != DOCUMENT:
        raise Unreadable("There is no before-image.")
    image = Image.of(stored[1])
    changed = image.changed(now)
    if changed:
        raise ChangedSince(changed)
    return bytes(document(_in_order(fields, image, _marks(marks, image, migration, version))).raw)


def _in_order(fields: InOrder, image: Image, marks: bytes | None) -> list[bytes]:
    """Returns the fields of the document: in their old order, then what the application has added since."""
    values: dict[bytes, deque[bytes]] = {}
    for name, kind, payload in fields:
        if name != ROOT and not image.touches(name):
            values.setdefault(name, deque()).append(element(kind, name, payload))
    for name, (kind, payload) in image.before.items():
        if name != ROOT and image.touches(name):
            values[name] = deque([element(kind, name, payload)])
    if marks is not None:
        values[ROOT] = deque([element(DOCUMENT, ROOT, marks)])
    order = [*_old_order(image), *(name for name, _, _ in fields), *values]
    return [values[name].popleft() for name in order if values.get(name)]


def _old_order(image: Image) -> Sequence[bytes]:
    """Returns the names in their order before the change; none where the change kept the order: the document's own order tells it."""
    if image.keys is not None:
        return image.keys
    return list(image.before) if image.fields is None or image.whole else ()


def _marks(marks: bytes, image: Image, migration: str, version: int) -> bytes | None:
    """Returns what is left of the field that holds marks and images; None where it did not exist before."""
    image_name = image_field(migration, version).encode()
    marker_name = marker_field(migration, version).encode()
    run = image.token.partition(".")[0].encode() + b"."
    remaining = []
    for name, kind, payload in iterate_fields(marks):
        if name == image_name:
            if image.prior is not None:
                remaining.append(element(image.prior[0], name, image.prior[1]))
        elif name != marker_name or kind != STRING or not payload[4:].startswith(run):
            remaining.append(element(kind, name, payload))
    return bytes(document(remaining).raw) if remaining or image.root else None


def _text(value: Value) -> str:
    if value[0] != STRING:
        raise ValueError("not a text")
    return value[1][4:-1].decode("utf-8", "replace")


def _document(value: Value) -> bytes:
    if value[0] != DOCUMENT:
        raise ValueError("not a document")
    return value[1]


def _names(value: Value) -> list[bytes]:
    if value[0] != ARRAY:
        raise ValueError("not a list")
    return [payload[4:-1] for _, kind, payload in iterate_fields(value[1]) if kind == STRING]
