"""Writes an update by operators as a pipeline that does exactly the same.

A pipeline can be applied to documents that are not stored (`$documents`), and can see the document as it was; operators
can do neither. Where the operator fails on a document the pipeline fails too, though with another message. An ordinary pipeline would not: it
replaces what stands in the way of a dotted path, and reaches into arrays.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from bson import Decimal128

from whimbrel.domain.migrations.update_paths import order_of, paths_clash
from whimbrel.domain.migrations.updates import Update
from whimbrel.errors import Untranslatable

Stage = dict[str, Any]
Expression = Any

_WHOLE = ["int", "long"]  # the names in `$type`
_IN_DOCUMENTS = ["missing", "object"]
NOTHING: Stage = {"$replaceWith": "$$ROOT"}


class _Step(NamedTuple):
    """What one operator does at one path. `value`: the new value, as an expression; None removes the field."""

    operator: str
    path: str
    value: Expression

    @property
    def parents(self) -> list[str]:
        return [self.path[:position] for position, char in enumerate(self.path) if char == "."]

    @property
    def creates(self) -> bool:
        """Whether a missing field is added."""
        return self.operator not in ("$unset", "$pop")


def as_pipeline(update: Update) -> list[Stage]:
    """Returns a pipeline that does to every document what `update` does. A pipeline is returned as it is.

    The only difference allowed: the moment of `$currentDate`. Raises Untranslatable, which names the operator and what to do; also
    for an update that MongoDB would refuse for every document.
    """
    if not isinstance(update, Mapping):
        return [dict(stage) for stage in update]
    steps = sorted(_steps(update), key=lambda step: order_of(step.path))
    renamed = update.get("$rename", {})
    stages = [
        *_guards(steps),
        *(_stage_within_parents(step) for step in steps if not step.creates),
        *([{"$set": added}] if (added := {step.path: step.value for step in steps if step.creates}) else []),
        *([{"$unset": list(renamed)}] if renamed else []),
    ]
    return stages or [NOTHING]


def _steps(update: Mapping[str, Any]) -> Iterable[_Step]:
    steps: list[_Step] = []
    all_paths: list[str] = []
    for operator, body in update.items():
        if operator not in _VALUES:
            raise _untranslatable(operator, "it has no equivalent there")
        if not isinstance(body, Mapping):
            raise _untranslatable(operator, f"it takes a document, not {body!r:.60}")
        for path, argument in body.items():
            paths = [path, argument] if operator == "$rename" else [path]
            for checked_path in paths:
                _check_path(operator, checked_path)
            all_paths += paths
            if operator == "$rename":
                steps.append(_Step(operator, argument, _renamed(path, argument)))
            elif operator != "$setOnInsert":  # nothing is ever inserted
                steps.append(_Step(operator, path, _VALUES[operator](f"${path}", argument)))
    if paths_clash(all_paths):
        raise _untranslatable("/".join(update), "two of its paths are the same, or one lies within the other")
    return steps


def _check_path(operator: str, path: Any) -> None:
    parts = path.split(".") if isinstance(path, str) else [""]
    if any(not part or part[0] == "$" or "\0" in part for part in parts):
        raise _untranslatable(operator, f"{path!r} is no path to a field there")
    if any(part.isdigit() for part in parts[1:]):
        raise _untranslatable(operator, f"{path!r} may mean an element of an array")
    if operator == "$rename" and len(parts) > 1:
        raise _untranslatable(operator, f"{path!r} is not a top-level field")


def _untranslatable(operator: str, why: str) -> Untranslatable:
    return Untranslatable(
        operator,
        f"{operator} cannot be written as a pipeline: {why}. Write this update as a pipeline yourself, or as a function.",
    )


# what fails, and what stays as it is


def _kind(field_: str) -> Expression:
    return {"$type": field_}


def _all_of(paths: Iterable[str], kinds: list[str]) -> Expression:
    return {"$and": [{"$in": [_kind(f"${path}"), kinds]} for path in paths]}


def _raise(field_: str, code: int, text: str) -> Expression:
    """Fails, with the text in MongoDB's message. It must depend on the document, or it would fail before it is reached."""
    return {"$toInt": {"$concat": [{"$literal": f"{code}: {text}, which is of type "}, _kind(field_)]}}


_PATH, _TYPE, _VALUE = 28, 14, 2  # MongoDB's codes for errors of its operators
_MESSAGE = re.compile(r"Failed to parse number '(\d+): (.*)' in \$convert with no onError", re.DOTALL)


def parse_failure(message: str) -> tuple[int, str] | None:
    """Returns the code and the text with which a pipeline made here fails, from MongoDB's message. None: it is another failure."""
    match = _MESSAGE.search(message)
    return (int(match[1]), match[2]) if match else None


def _guards(steps: Iterable[_Step]) -> Iterable[Stage]:
    """Yields a stage that changes nothing, and fails where something other than a document stands on the way to a path.

    In a `$set`, MongoDB would not evaluate it where a later `$set` goes below the same field.
    """
    refused = [
        {"case": {"$not": [_all_of(step.parents, _IN_DOCUMENTS)]}, "then": _blocked_error(step)}
        for step in steps
        if step.parents and step.operator != "$unset"
    ]
    if refused:
        yield {"$replaceWith": {"$switch": {"branches": refused, "default": "$$ROOT"}}}


def _blocked_error(step: _Step) -> Expression:
    top = step.parents[0]
    return _raise(f"${top}", _PATH, f"{step.operator} cannot reach {step.path!r} through {top!r}")


def _stage_within_parents(step: _Step) -> Stage:
    """Returns a stage for a change that adds nothing where its parents are missing, and looks into no array."""
    parts = step.path.split(".")
    value: Expression = {"$cond": [{"$eq": [_kind(f"${step.path}"), "missing"]}, "$$REMOVE", step.value]}
    for depth in range(len(parts) - 1, -1, -1):
        holder = "$" + ".".join(parts[:depth]) if depth else "$$ROOT"
        value = {"$setField": {"field": {"$literal": parts[depth]}, "input": holder, "value": value}}
    return {"$replaceWith": {"$cond": [_all_of(step.parents, ["object"]), value, "$$ROOT"]}}


# values


def _set(_: str, value: Any) -> Expression:
    return {"$literal": value}


def _unset(_: str, __: Any) -> Expression:
    return "$$REMOVE"


def _renamed(old: str, new: str) -> Expression:
    return {"$cond": [{"$eq": [_kind(f"${old}"), "missing"]}, f"${new}", f"${old}"]}


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _inc(field_: str, amount: Any) -> Expression:
    _check_number("$inc", amount)
    # For two numbers of which one is not whole, $add sums differently from $inc (more exactly, and in another scale).
    if _is_whole(amount):
        double = {"$subtract": [field_, -float(amount)]}
        decimal = {"$subtract": [field_, Decimal128(Decimal128(str(amount)).to_decimal().copy_negate())]}
        return _number("$inc", field_, amount, {"$add": [field_, amount]}, double, decimal, whole=True)
    negative = Decimal128(amount.to_decimal().copy_negate()) if isinstance(amount, Decimal128) else -amount
    less = {"$subtract": [field_, negative]}
    return _number("$inc", field_, amount, less, less, less)


def _mul(field_: str, factor: Any) -> Expression:
    _check_number("$mul", factor)
    product = {"$multiply": [field_, factor]}
    return _number(
        "$mul", field_, {"$multiply": [factor, 0]}, product, product, product, whole=_is_whole(factor)
    )


def _check_number(operator: str, value: Any) -> None:
    if not (_is_whole(value) or isinstance(value, float | Decimal128)):
        raise _untranslatable(operator, f"it takes a number, not {value!r:.60}")


def _number(
    operator: str, field_: str, missing: Any, *results: Expression, whole: bool = False
) -> Expression:
    """Returns the result by the type of the field: whole, double, decimal."""
    refused = _raise(field_, _TYPE, f"{operator} needs a number in {field_[1:]!r}")
    integer, double, decimal = results
    if whole:  # beyond 64 bits MongoDB's operators fail, but its expressions return doubles
        overflow = _raise(field_, _VALUE, f"{operator} goes beyond 64 bits in {field_[1:]!r}")
        too_large = {"$eq": [_kind("$$result"), "double"]}
        integer = _result(integer, {"$cond": [too_large, overflow, "$$result"]})
    changed: Expression = {
        "$switch": {
            "branches": [
                {"case": {"$in": [_kind(field_), _WHOLE]}, "then": integer},
                {"case": {"$eq": [_kind(field_), "double"]}, "then": double},
                {"case": {"$eq": [_kind(field_), "decimal"]}, "then": decimal},
            ],
            "default": refused,
        }
    }
    # An equal number is not written: 0.0 stays what it is, and does not become -0.0.
    equal = {"$and": [{"$eq": ["$$result", field_]}, {"$eq": [_kind("$$result"), _kind(field_)]}]}
    new_value = _result(changed, {"$cond": [equal, field_, "$$result"]})
    return {"$cond": [{"$eq": [_kind(field_), "missing"]}, missing, new_value]}


def _result(value: Expression, then: Expression) -> Expression:
    return {"$let": {"vars": {"result": value}, "in": then}}


def _bound(comparison: str) -> Callable[[str, Any], Expression]:
    def value(field_: str, bound: Any) -> Expression:
        replaces = {"$or": [{"$eq": [_kind(field_), "missing"]}, {comparison: [field_, {"$literal": bound}]}]}
        return {"$cond": [replaces, {"$literal": bound}, field_]}

    return value


def _current_date(_: str, argument: Any) -> Expression:
    if not (
        isinstance(argument, bool) or (isinstance(argument, Mapping) and dict(argument) == {"$type": "date"})
    ):
        raise _untranslatable("$currentDate", f"it can be a date there, and not {argument!r:.60}")
    return "$$NOW"


def _each_value(operator: str, argument: Any) -> list[Any]:
    if not (isinstance(argument, Mapping) and "$each" in argument):
        return [argument]
    if len(argument) > 1 or not isinstance(argument["$each"], list | tuple):
        unsupported = ", ".join(name for name in argument if name != "$each") or "such an $each"
        raise _untranslatable(operator, f"{unsupported} has no equivalent there")
    return list(argument["$each"])


def _array(operator: str, field_: str, then: Expression) -> Expression:
    """Returns `then` for an array, and an empty array for a missing field."""
    refused = _raise(field_, _TYPE, f"{operator} needs an array in {field_[1:]!r}")
    current = {"$cond": [{"$eq": [_kind(field_), "missing"]}, {"$literal": []}, field_]}
    checked = {"$cond": [{"$in": [_kind(field_), ["missing", "array"]]}, current, refused]}
    return {"$let": {"vars": {"held": checked}, "in": then}}


def _push(field_: str, argument: Any) -> Expression:
    return _array(
        "$push", field_, {"$concatArrays": ["$$held", {"$literal": _each_value("$push", argument)}]}
    )


def _add_to_set(field_: str, argument: Any) -> Expression:
    new = {"$concatArrays": ["$$value", ["$$this"]]}
    reduction = {
        "input": {"$literal": _each_value("$addToSet", argument)},
        "initialValue": "$$held",
        "in": {"$cond": [{"$in": ["$$this", "$$value"]}, "$$value", new]},
    }
    return _array("$addToSet", field_, {"$reduce": reduction})


def _pop(field_: str, end: Any) -> Expression:
    if isinstance(end, bool) or end not in (1, -1):
        raise _untranslatable("$pop", f"it takes 1 or -1, not {end!r:.60}")
    size = {"$size": "$$held"}
    slice_arguments = ["$$held", 1, size] if end == -1 else ["$$held", {"$subtract": [size, 1]}]
    shortened = {"$cond": [{"$lte": [size, 1]}, {"$literal": []}, {"$slice": slice_arguments}]}
    return _array("$pop", field_, shortened)


_VALUES: dict[str, Callable[[str, Any], Expression]] = {
    "$set": _set,
    "$setOnInsert": _set,
    "$unset": _unset,
    "$rename": _renamed,
    "$inc": _inc,
    "$mul": _mul,
    "$min": _bound("$gt"),
    "$max": _bound("$lt"),
    "$currentDate": _current_date,
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pop": _pop,
}
