"""A dry run as an object: of the REST API and of `--json`. Values of documents are Extended JSON."""

from typing import Any

from whimbrel.domain.diffs import Edit, Value, dotted, readable
from whimbrel.domain.findings import finding_object
from whimbrel.domain.ids import canonical, id_json, relaxed
from whimbrel.engine.dryrun import Difference, DryRun, FailedGroup
from whimbrel.engine.predict import Guess
from whimbrel.engine.verdicts import Verdict


def exact(value: Value) -> Any:
    """A value as canonical Extended JSON, with every type told: 5 and 5.0 are not the same."""
    return canonical(readable(value))


def dry_run_object(it: DryRun) -> dict[str, Any]:
    """Counts are documents, sizes bytes."""
    growth, validator = it.growth, it.validator
    return {
        "migration": it.run.migration, "collection": it.run.ns, "mark": it.run.mark,
        "filters": relaxed(it.run.query), "update": relaxed(it.run.declared),
        "selected": {
            "documents": it.selected.exact, "estimated": it.selected.estimated, "how": it.selected.how,
            "index": it.selected.index,
        },
        "batches": it.batches, "batchSize": it.run.batch_size, "sample": {"documents": len(it.rehearsed), **it.sample},
        "outcomes": {_camel(name): count for name, count in it.outcomes.items()},
        "failures": [_failed(each) for each in it.failures],
        "notShown": [{"reason": reason, "documents": count} for reason, count in it.not_shown.items()],
        "diffs": [_difference(each) for each in it.differences],
        "touched": sorted(it.touched),
        "growth": None if growth is None else {
            "mean": round(growth.mean, 1), "largest": growth.largest, "largestId": id_json(growth.largest_key),
            "largestDocument": growth.largest_document, "projectedTotal": growth.projected,
        },
        "validator": None if validator is None else {
            "refused": len(validator.keys), "ids": [id_json(key) for key in validator.keys[:10]], "refuses": validator.refuses,
        },
        "uniqueIndexes": [
            {"index": each.index, "id": id_json(each.key), "other": id_json(each.other), "stored": each.stored}
            for each in it.clashes
        ],
        "unchecked": list(it.unchecked),
        "deterministic": _verdict(it.deterministic), "idempotent": _verdict(it.idempotent),
        "filterAfter": {
            "filtered": it.reselected.filtered, "changed": it.reselected.changed, "stillSelected": it.reselected.still,
        },
        "warnings": [finding_object(each) for each in it.warnings],
        "predicted": {
            "seconds": _guess(it.predicted.seconds), "oplogBytes": _guess(it.predicted.oplog),
        },
    }  # fmt: skip


def _camel(name: str) -> str:
    first, *rest = name.split()
    return first + "".join(word.title() for word in rest)


def _failed(it: FailedGroup) -> dict[str, Any]:
    return {
        "group": it.cause.id, "kind": str(it.example.kind), "type": it.example.type,
        "message": it.example.message, "documents": it.count, "example": id_json(it.example.key),
        "traceback": it.example.traceback,
    }  # fmt: skip


def _difference(it: Difference) -> dict[str, Any]:
    return {"id": id_json(it.key), "changes": [_edit(each) for each in it.edits]}


def _edit(it: Edit) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": it.kind, "path": dotted(it.path)}
    if it.old is not None:
        told["old"] = exact(it.old)
    if it.new is not None:
        told["new"] = exact(it.new)
    return {**told, "order": list(it.names)} if it.names else told


def _verdict(it: Verdict) -> dict[str, Any]:
    return {"holds": it.holds, "why": it.why}


def _guess(it: Guess | None) -> dict[str, Any] | None:
    return None if it is None else {"value": round(it.value, 1), "basis": it.basis}
