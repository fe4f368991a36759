"""Builds the stages of an update pipeline that keep a document's before-image (see `whimbrel.domain.migrations.before_images`)."""

from collections.abc import Mapping, Sequence
from typing import Any

from whimbrel.domain.migrations.before_images import UndoStages, of_run
from whimbrel.domain.migrations.marks import MARK_ROOT
from whimbrel.domain.migrations.pipelines import as_pipeline
from whimbrel.domain.migrations.updates import Update, touched
from whimbrel.ports import Write

Stages = Sequence[Mapping[str, Any]]
Fields = tuple[str, ...] | None
# Expressions that give null, never "missing", where an input is missing.
NEVER_MISSING = frozenset({
    "$literal", "$add", "$subtract", "$multiply", "$divide", "$mod", "$abs", "$ceil", "$floor", "$round", "$trunc", "$pow", "$sqrt",
    "$concat", "$toUpper", "$toLower", "$trim", "$ltrim", "$rtrim", "$split", "$substrCP", "$substrBytes", "$strLenCP", "$strLenBytes",
    "$toString", "$toInt", "$toLong", "$toDouble", "$toDecimal", "$toBool", "$toDate", "$toObjectId", "$size", "$type", "$isNumber",
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$and", "$or", "$not", "$in", "$mergeObjects", "$concatArrays", "$map", "$filter",
    "$dateAdd", "$dateSubtract", "$dateDiff", "$dateTrunc", "$dateToString", "$objectToArray", "$arrayToObject",
})  # fmt: skip
REMOVING = frozenset({"$unset", "$rename"})  # operators that remove fields


def of_update(
    update: Update, write: Write, mark: Mapping[str, Any], undo: UndoStages
) -> list[Mapping[str, Any]]:
    """Returns a user's update as a pipeline that also sets the mark and keeps an image of what it changes."""
    stages: Stages = as_pipeline(update)
    if isinstance(update, Mapping):
        ordered = not REMOVING.isdisjoint(update)
    else:
        stages, ordered = [_keeping_marks(stage) for stage in stages], _may_remove(stages)
    marking = [{"$set": mark}] if mark else []
    return with_before_image([*stages, *marking], touched(update), write, undo, ordered=ordered)


def with_before_image(
    stages: Stages, fields: Fields, write: Write, undo: UndoStages, *, ordered: bool
) -> list[Mapping[str, Any]]:
    """Puts the stages that keep the image around stages that change `fields` (None: any field).

    `ordered`: whether the change may remove fields, so that their order must be kept. MongoDB computes the image from the
    document that it changes, so it is not sent.
    """
    always = tuple(sorted(write.mark.reserved - {MARK_ROOT}))
    if fields is not None:
        fields = tuple(sorted({*fields, *always}))
    before = _set_image(undo.field, _image(undo, write.token, fields, always, ordered=ordered))
    after = {"$mergeObjects": [f"${MARK_ROOT}.{undo.field}", {"after": _current_values(fields)}]}
    return [before, *stages, _set_image(undo.field, after)]


def _set_image(field: str, image: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a stage that sets an image. MongoDB raises where the application's own `_whimbrel` is not a document."""
    return {"$set": {MARK_ROOT: {"$mergeObjects": [f"${MARK_ROOT}", {field: image}]}}}


def _image(
    undo: UndoStages, token: str, fields: Fields, always: Sequence[str], *, ordered: bool
) -> Mapping[str, Any]:
    prior = f"${MARK_ROOT}.{undo.field}"
    every_field = fields is None or undo.whole
    fields_before: Any = "$$ROOT" if every_field else {name: f"${name}" for name in fields or ()}
    image: dict[str, Any] = {
        "token": {"$literal": token},
        "before": fields_before,
        "prior": prior,
        "root": {"$cond": [{"$eq": [f"${MARK_ROOT}", {"$literal": {}}]}, True, "$$REMOVE"]},
    }
    if fields is not None:
        image["fields"] = {"$literal": list(fields)}
    if undo.whole:
        image["whole"] = {"$literal": True}
    if ordered and not every_field:
        image["keys"] = {"$map": {"input": {"$objectToArray": "$$ROOT"}, "in": "$$this.k"}}
    return _first_image(image, prior, undo.run, always) if always else image


def _first_image(image: dict[str, Any], prior: str, run: str, always: Sequence[str]) -> Mapping[str, Any]:
    """Returns the image, or the one that this run kept earlier, before it marked the document as failed."""
    is_own = of_run(f"{prior}.token", run)
    untouched = {"$eq": [f"{prior}.after", {name: f"${name}" for name in always}]}
    before: Any = f"{prior}.before"
    conditions = [is_own, untouched]
    if image["before"] == "$$ROOT":
        conditions.append({"$eq": [_without(always, "$$ROOT"), _without(always, before)]})
    else:
        changed = {name: value for name, value in image["before"].items() if name not in always}
        before = {"$mergeObjects": [changed, before]}
    return image | {
        "before": {"$cond": [{"$and": conditions}, before, image["before"]]},
        "prior": {"$cond": [is_own, f"{prior}.prior", prior]},
        "root": {"$cond": [is_own, f"{prior}.root", image["root"]]},
    }


def _without(names: Sequence[str], document: Any) -> Any:
    for name in (*names, MARK_ROOT):
        document = {"$unsetField": {"field": name, "input": document}}
    return document


def _current_values(fields: Fields) -> Any:
    if fields is None:
        return _without((), "$$ROOT")
    return {name: f"${name}" for name in fields}


def _keeping_marks(stage: Mapping[str, Any]) -> Mapping[str, Any]:
    """Changes a stage so that it leaves our marks and images in the document."""
    operator, body = next(iter(stage.items()))
    if operator in ("$replaceWith", "$replaceRoot"):
        document = body["newRoot"] if operator == "$replaceRoot" else body
        return {"$replaceWith": {"$mergeObjects": [document, {MARK_ROOT: f"${MARK_ROOT}"}]}}
    if operator == "$project" and touched([stage]) is None:
        return {"$project": {**body, MARK_ROOT: 1}}
    return stage


def _may_remove(stages: Stages) -> bool:
    """Whether a change can remove a field, and so lose its position in the document."""
    for stage in stages:
        operator, body = next(iter(stage.items()))
        if operator not in ("$set", "$addFields") or not all(map(_has_value, body.values())):
            return True
    return False


def _has_value(expression: Any) -> bool:
    """Whether an expression has a value, possibly null, for every document."""
    if isinstance(expression, str):
        return expression[:1] != "$" or expression in ("$$NOW", "$$CLUSTER_TIME")
    if isinstance(expression, Mapping) and expression:
        operator = next(iter(expression))
        return operator[:1] != "$" or operator in NEVER_MISSING
    return True
