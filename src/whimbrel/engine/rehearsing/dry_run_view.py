"""Shows a dry run as an object of the REST API and of `--json`. Values of documents are Extended JSON."""

from typing import Any

from whimbrel.domain.bson.diffs import Edit, Value, dotted, readable
from whimbrel.domain.bson.document_ids import canonical, id_json, relaxed
from whimbrel.domain.runs.preflight_findings import finding_object
from whimbrel.engine.rehearsing.determinism import Verdict
from whimbrel.engine.rehearsing.dry_run import Difference, DryRun, FailedGroup
from whimbrel.engine.rehearsing.prediction import PredictedRange


def exact(value: Value) -> Any:
    """Returns a value as canonical Extended JSON, with every type told: 5 and 5.0 are not the same."""
    return canonical(readable(value))


def dry_run_object(dry_run: DryRun) -> dict[str, Any]:
    """Returns the dry run as an object. Counts are documents, sizes bytes."""
    growth, validator = dry_run.growth, dry_run.validator
    return {
        "migration": dry_run.run.migration, "collection": dry_run.run.ns, "mark": dry_run.run.mark,
        "filters": relaxed(dry_run.run.query), "update": relaxed(dry_run.run.declared),
        "selected": {
            "documents": dry_run.selected.exact, "estimated": dry_run.selected.estimated, "how": dry_run.selected.how,
            "index": dry_run.selected.index,
        },
        "batches": dry_run.batches, "batchSize": dry_run.run.batch_size, "sample": {"documents": len(dry_run.rehearsed), **dry_run.sample},
        "outcomes": {_camel(name): count for name, count in dry_run.outcomes.items()},
        "failures": [_failed(group) for group in dry_run.failures],
        "notShown": [{"reason": reason, "documents": count} for reason, count in dry_run.not_shown.items()],
        "diffs": [_difference(difference) for difference in dry_run.differences],
        "touched": sorted(dry_run.touched),
        "growth": None if growth is None else {
            "mean": round(growth.mean, 1), "largest": growth.largest, "largestId": id_json(growth.largest_key),
            "largestDocument": growth.largest_document, "projectedTotal": growth.projected,
        },
        "validator": None if validator is None else {
            "refused": len(validator.keys), "ids": [id_json(key) for key in validator.keys[:10]], "refuses": validator.refuses,
        },
        "uniqueIndexes": [
            {"index": clash.index, "id": id_json(clash.key), "other": id_json(clash.other), "stored": clash.stored}
            for clash in dry_run.clashes
        ],
        "unchecked": list(dry_run.unchecked),
        "deterministic": _verdict(dry_run.deterministic), "idempotent": _verdict(dry_run.idempotent),
        "filterAfter": {
            "filtered": dry_run.reselected.filtered, "changed": dry_run.reselected.changed, "stillSelected": dry_run.reselected.still,
        },
        "warnings": [finding_object(finding) for finding in dry_run.warnings],
        "predicted": {
            "seconds": _guess(dry_run.predicted.seconds), "oplogBytes": _guess(dry_run.predicted.oplog),
        },
    }  # fmt: skip


def _camel(name: str) -> str:
    first, *others = name.split()
    return first + "".join(word.title() for word in others)


def _failed(group: FailedGroup) -> dict[str, Any]:
    return {
        "group": group.cause.id, "kind": str(group.example.kind), "type": group.example.type,
        "message": group.example.message, "documents": group.count, "example": id_json(group.example.key),
        "traceback": group.example.traceback,
    }  # fmt: skip


def _difference(difference: Difference) -> dict[str, Any]:
    return {"id": id_json(difference.key), "changes": [_edit(edit) for edit in difference.edits]}


def _edit(edit: Edit) -> dict[str, Any]:
    shown: dict[str, Any] = {"kind": edit.kind, "path": dotted(edit.path)}
    if edit.old is not None:
        shown["old"] = exact(edit.old)
    if edit.new is not None:
        shown["new"] = exact(edit.new)
    return {**shown, "order": list(edit.names)} if edit.names else shown


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {"holds": verdict.holds, "why": verdict.why}


def _guess(guess: PredictedRange | None) -> dict[str, Any] | None:
    return None if guess is None else {"value": round(guess.value, 1), "basis": guess.basis}
