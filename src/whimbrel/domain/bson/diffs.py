"""Differences between two documents, field by field, in values, types and order; and applying them.

Documents are raw BSON, so that nothing is lost on the way: 5 and 5.0 differ, and so do the bytes of texts that cannot be decoded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bson.errors import InvalidBSON

from whimbrel.domain.bson.raw_bson import ARRAY, DOCUMENT, decoded, document, element, iterate_fields

Value = tuple[int, bytes]  # a type and the bytes of a value
Path = tuple[str | int, ...]  # names of fields, and positions in arrays
EditKind = Literal["added", "removed", "changed", "order"]


@dataclass(frozen=True, slots=True)
class Edit:
    """One difference. `order`: the fields under `path` have another order, that of `names`."""

    kind: EditKind
    path: Path
    old: Value | None = None
    new: Value | None = None
    names: tuple[str, ...] = ()

    @property
    def top(self) -> str | None:
        """The top-level field; None for the document as a whole."""
        return str(self.path[0]) if self.path else None


def difference(old: bytes, new: bytes) -> list[Edit]:
    """Returns what turns `old` into `new`, in the order of the fields."""
    return list(_differences((DOCUMENT, bytes(old)), (DOCUMENT, bytes(new)), ()))


def applied(old: bytes, edits: Sequence[Edit]) -> bytes:
    """Returns `old` after its edits. Raises ValueError where they are not edits of this document."""
    value = (DOCUMENT, bytes(old))
    for edit in edits:
        value = _apply(value, edit.path, edit)
    return value[1]


def dotted(path: Path) -> str:
    """Formats a path for people; an empty name or one with a dot is quoted."""
    parts = [
        str(part) if isinstance(part, int) or (part and "." not in part) else f"'{part}'" for part in path
    ]
    return ".".join(parts)


def readable(value: Value) -> Any:
    """Returns a value as Python has it; where it cannot be decoded, its bytes as text."""
    kind, payload = value
    try:
        return decoded(bytes(document([element(kind, b"v", payload)]).raw))["v"]
    except (InvalidBSON, UnicodeDecodeError):
        return payload.decode("utf-8", "backslashreplace")


def _differences(old: Value, new: Value, path: Path) -> Iterator[Edit]:
    if old == new:
        return
    before, after = _parts(old), _parts(new)
    if before is None or after is None or old[0] != new[0]:
        yield Edit("changed", path, old, new)
        return
    ordered = [*before, *(name for name in after if name not in before)]
    if old[0] == ARRAY and len(after) < len(before):  # from its end, so that each step leaves an array
        ordered = [*after, *reversed(ordered[len(after) :])]
    for name in ordered:
        inner_path = (*path, int(name) if old[0] == ARRAY else name)
        if name not in after:
            yield Edit("removed", inner_path, old=before[name])
        elif name not in before:
            yield Edit("added", inner_path, new=after[name])
        else:
            yield from _differences(before[name], after[name], inner_path)
    common = [name for name in before if name in after]
    if [*common, *(name for name in after if name not in before)] != list(after):
        yield Edit("order", path, names=tuple(after))


def _parts(value: Value) -> dict[str, Value] | None:
    """Returns the fields of a document or the elements of an array; None for anything that cannot be taken apart and put together again."""
    kind, payload = value
    if kind not in (DOCUMENT, ARRAY):
        return None
    try:
        parts = [(name.decode(), (inner, raw)) for name, inner, raw in iterate_fields(payload)]
    except UnicodeDecodeError:
        return None
    names = [name for name, _ in parts]
    if len(set(names)) < len(names) or (kind == ARRAY and names != [str(i) for i in range(len(names))]):
        return None
    return dict(parts)


def _apply(value: Value, path: Path, edit: Edit) -> Value:
    if not path and edit.kind != "order":
        if edit.new is None:
            raise ValueError("an edit of the whole document must have a new one")
        return edit.new
    parts = _parts(value)
    if parts is None:
        raise ValueError(f"there is nothing at {dotted(edit.path)}")
    if not path:
        return _joined(value[0], {name: parts[name] for name in edit.names})
    name = str(path[0])
    if len(path) == 1 and edit.kind == "removed":
        return _joined(value[0], {other: part for other, part in parts.items() if other != name})
    if len(path) == 1 and edit.kind == "added":
        return _joined(value[0], {**parts, name: edit.new or (0, b"")})
    return _joined(value[0], {**parts, name: _apply(parts[name], path[1:], edit)})


def _joined(kind: int, parts: dict[str, Value]) -> Value:
    return kind, bytes(
        document(element(inner, name.encode(), raw) for name, (inner, raw) in parts.items()).raw
    )
