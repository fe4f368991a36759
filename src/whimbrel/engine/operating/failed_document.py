"""Shows the document of a failure as it is now, and as it was before the run where that is known: bounded, whatever its size."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from bson.errors import BSONError

from whimbrel.domain.bson.document_ids import relaxed
from whimbrel.domain.bson.raw_bson import Key, decoded, document, element, iterate_fields
from whimbrel.domain.migrations.before_images import ChangedSince, Unreadable, restored_document
from whimbrel.domain.migrations.marks import MARK_ROOT
from whimbrel.domain.runs.run import Run
from whimbrel.errors import WhimbrelError
from whimbrel.ports import Store

FIELD = 4_000  # bytes of a field that is shown
SHOWN = 16_000  # bytes of all fields together
FIELDS = 200
Json = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class ShownDocument:
    """`now`: fields as Extended JSON; None where there is no such document any more. `before`: the same before the run; None where that is not known.

    `left_out`: fields that are too large to be shown, with their bytes. `why`: why there is nothing to show, or no image.
    """

    now: dict[str, Any] | None
    before: dict[str, Any] | None = None
    left_out: tuple[tuple[str, int], ...] = ()
    why: str = ""


def shown_document(store: Store, run: Run, key: Key, json: Json = relaxed) -> ShownDocument:
    """Reads a document of a run's collection, as a majority has it. Raises nothing that reading it raises: that is told in `why`.

    `json`: makes Extended JSON of values.
    """
    try:
        page = store.session().documents(run).examiner.read([key], {}, 1)
    except WhimbrelError as error:
        return ShownDocument(None, why=error.short)
    if not page.documents:
        return ShownDocument(None, why="There is no such document any more.")
    now, left_out = _readable(page.documents[0], json)
    before, why = _before(run, page.documents[0], json)
    return ShownDocument(now, before, left_out, why)


def _before(run: Run, raw: bytes, json: Json) -> tuple[dict[str, Any] | None, str]:
    if not run.undo:
        return None, "The run keeps no before-images."
    try:
        return _readable(restored_document(raw, run.migration, run.version), json)[0], ""
    except ChangedSince as error:
        fields = ", ".join(error.fields)
        return None, f"The application has changed it since the run did: {fields}."
    except Unreadable:
        return None, "It has no before-image: the run has not changed it."


def _readable(raw: bytes, json: Json) -> tuple[dict[str, Any], tuple[tuple[str, int], ...]]:
    """Returns the fields that can be shown, without those of Whimbrel itself, and names and bytes of the others."""
    shown, left_out, room = list[bytes](), list[tuple[str, int]](), SHOWN
    for name, kind, value in iterate_fields(raw):
        text = name.decode("utf-8", "replace")
        if text == MARK_ROOT:
            continue
        if len(value) > min(FIELD, room) or len(shown) >= FIELDS:
            left_out.append((text, len(value)))
            continue
        shown.append(element(kind, name, value))
        room -= len(value)
    return _decoded(shown, json), tuple(left_out)


def _decoded(fields: Iterable[bytes], json: Json) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json(decoded(bytes(document(fields).raw)))
    except (BSONError, ValueError) as error:
        return {"": f"cannot be shown: {error}"}
    return found
