"""Checks whether documents can take the mark: its field must be free, and a validator must allow it (hole H20)."""

from collections.abc import Iterator, Mapping
from typing import Any

from whimbrel.domain.bson.raw_bson import keys_under
from whimbrel.domain.migrations.marks import MARK_ROOT, Marker
from whimbrel.domain.runs.preflight_findings import CheckName, Finding, error
from whimbrel.mongo.driver_errors import translated
from whimbrel.mongo.preflight.find_one_quickly import find_one_quickly
from whimbrel.mongo.preflight.subject import LOOK, Subject


def field(subject: Subject) -> Iterator[Finding]:
    if not isinstance(subject.run.marking, Marker):
        return
    kind = {"$type": f"${MARK_ROOT}"}
    foreign = find_one_quickly(subject, {"$expr": {"$not": [{"$in": [kind, ["missing", "object"]]}]}})
    if foreign is not None:
        yield error(
            CheckName.MARK,
            f"{subject.name} uses the field {MARK_ROOT!r} itself (document {foreign.value!r}).",
            "Choose mark='status' or mark='filter'.",
        )


def allowed(subject: Subject) -> Iterator[Finding]:
    """Tries the validator on one valid document with the mark added."""
    mark, validator, query = subject.run.marking, subject.validator, subject.run.query
    if validator is None or not mark.path:
        return
    valid = find_one_quickly(subject, {"$and": [query, validator]} if query else dict(validator))
    if valid is None:
        return
    trial: list[Mapping[str, Any]] = [
        {"$match": {"_id": keys_under("$in", [valid])}},
        {"$set": mark.expression("trial.0")},
        {"$match": validator},
        {"$project": {"_id": 0, "accepted": {"$literal": True}}},
    ]
    with translated():
        accepted = next(iter(subject.collection.aggregate(trial, maxTimeMS=LOOK)), None)
    if accepted is None:
        yield error(
            CheckName.MARK,
            f"The validator of {subject.name} does not allow the field that marks a document as done ({mark.path!r}).",
            "Allow it in the validator, or choose another mark.",
        )
