"""Whether documents can take the mark: its field must be free, and a validator must allow it (hole H20)."""

from collections.abc import Iterator, Mapping
from typing import Any

from whimbrel.domain.findings import Check, Finding, error
from whimbrel.domain.marks import MARK_ROOT, Marker
from whimbrel.domain.raw import keys_under
from whimbrel.mongo.errors import translated
from whimbrel.mongo.preflight.glances import glance
from whimbrel.mongo.preflight.subject import LOOK, Subject


def field(it: Subject) -> Iterator[Finding]:
    if not isinstance(it.run.marking, Marker):
        return
    kind = {"$type": f"${MARK_ROOT}"}
    taken = glance(it, {"$expr": {"$not": [{"$in": [kind, ["missing", "object"]]}]}})
    if taken is not None:
        yield error(
            Check.MARK,
            f"{it.name} uses the field {MARK_ROOT!r} itself (document {taken.value!r}).",
            "Choose mark='status' or mark='filter'.",
        )


def allowed(it: Subject) -> Iterator[Finding]:
    """Try the validator on one valid document with the mark added."""
    mark, validator, query = it.run.marking, it.validator, it.run.query
    if validator is None or not mark.path:
        return
    valid = glance(it, {"$and": [query, validator]} if query else dict(validator))
    if valid is None:
        return
    trial: list[Mapping[str, Any]] = [
        {"$match": {"_id": keys_under("$in", [valid])}},
        {"$set": mark.expression("trial.0")},
        {"$match": validator},
        {"$project": {"_id": 0, "accepted": {"$literal": True}}},
    ]
    with translated():
        accepted = next(iter(it.collection.aggregate(trial, maxTimeMS=LOOK)), None)
    if accepted is None:
        yield error(
            Check.MARK,
            f"The validator of {it.name} does not allow the field that marks a document as done ({mark.path!r}).",
            "Allow it in the validator, or choose another mark.",
        )
