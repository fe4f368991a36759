"""An update by operators, written as a pipeline that does exactly the same.

A pipeline can be applied to documents that are not stored (`$documents`), and can see the document as it was; operators
can do neither. Where the operator fails on a document the pipeline fails too, though in other words. A pipeline of its own accord would not: it
replaces what stands in the way of a dotted path, and reaches into arrays.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from bson import Decimal128

from whimbrel.domain.migrations.update_paths import clash, order_of
from whimbrel.domain.migrations.updates import Update
from whimbrel.errors import Untranslatable

Stage = dict[str, Any]
Expression = Any

_WHOLE = ["int", "long"]  # as `$type` calls them
_IN_DOCUMENTS = ["missing", "object"]
NOTHING: Stage = {"$replaceWith": "$$ROOT"}


class _Step(NamedTuple):
    """What one operator does at one path. `value`: the new value, as an expression; None removes the field."""

    operator: str
    path: str
    value: Expression

    @property
    def parents(self) -> list[str]:
        return [self.path[:at] for at, char in enumerate(self.path) if char == "."]

    @property
    def creates(self) -> bool:
        """Whether a missing field is added."""
        return self.operator not in ("$unset", "$pop")


def as_pipeline(update: Update) -> list[Stage]:
    """A pipeline that does to every document what `update` does. One that is a pipeline is returned as it is.

    The only difference allowed: the moment that `$currentDate` means. Raises Untranslatable, which names the operator and what to do; also
    for an update that MongoDB would refuse for every document.
    """
    if not isinstance(update, Mapping):
        return [dict(stage) for stage in update]
    steps = sorted(_steps(update), key=lambda step: order_of(step.path))
    renamed = update.get("$rename", {})
    stages = [
        *_guards(steps),
        *(_within(step) for step in steps if not step.creates),
        *([{"$set": added}] if (added := {step.path: step.value for step in steps if step.creates}) else []),
        *([{"$unset": list(renamed)}] if renamed else []),
    ]
    return stages or [NOTHING]


def _steps(update: Mapping[str, Any]) -> Iterable[_Step]:
    steps: list[_Step] = []
    taken: list[str] = []
    for operator, body in update.items():
        if operator not in _VALUES:
            raise _untranslatable(operator, "it has no equivalent there")
        if not isinstance(body, Mapping):
            raise _untranslatable(operator, f"it takes a document, not {body!r:.60}")
        for path, argument in body.items():
            paths = [path, argument] if operator == "$rename" else [path]
            for each in paths:
                _check_path(operator, each)
            taken += paths
            if operator == "$rename":
                steps.append(_Step(operator, argument, _renamed(path, argument)))
            elif operator != "$setOnInsert":  # nothing is ever inserted
                steps.append(_Step(operator, path, _VALUES[operator](f"${path}", argument)))
    if clash(taken):
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


def _kind(here: str) -> Expression:
    return {"$type": here}


def _all_of(paths: Iterable[str], kinds: list[str]) -> Expression:
    return {"$and": [{"$in": [_kind(f"${path}"), kinds]} for path in paths]}


def _raise(here: str, code: int, text: str) -> Expression:
    """It fails, and MongoDB's message quotes the text. It must look at the document, or it would fail before it is reached."""
    return {"$toInt": {"$concat": [{"$literal": f"{code}: {text}, which is of type "}, _kind(here)]}}


_PATH, _TYPE, _VALUE = 28, 14, 2  # codes that MongoDB has for what its operators cannot do
_SAID = re.compile(r"Failed to parse number '(\d+): (.*)' in \$convert with no onError", re.DOTALL)


def complaint(message: str) -> tuple[int, str] | None:
    """The code and the words that a pipeline made here fails with, from MongoDB's message. None: it is another failure."""
    found = _SAID.search(message)
    return (int(found[1]), found[2]) if found else None


def _guards(steps: Iterable[_Step]) -> Iterable[Stage]:
    """A stage that changes nothing, and fails where something that is no document stands on the way to a path.

    In a `$set` MongoDB would not even evaluate it, where a later `$set` goes below the same field.
    """
    refused = [
        {"case": {"$not": [_all_of(step.parents, _IN_DOCUMENTS)]}, "then": _blocked(step)}
        for step in steps
        if step.parents and step.operator != "$unset"
    ]
    if refused:
        yield {"$replaceWith": {"$switch": {"branches": refused, "default": "$$ROOT"}}}


def _blocked(step: _Step) -> Expression:
    top = step.parents[0]
    return _raise(f"${top}", _PATH, f"{step.operator} cannot reach {step.path!r} through {top!r}")


def _within(step: _Step) -> Stage:
    """A stage for a change that adds nothing where its parents are missing, and looks into no array."""
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


def _inc(here: str, amount: Any) -> Expression:
    _check_number("$inc", amount)
    # Of two numbers of which one is no whole number: $add sums otherwise than $inc (more exactly, and in another scale).
    if _is_whole(amount):
        double = {"$subtract": [here, -float(amount)]}
        decimal = {"$subtract": [here, Decimal128(Decimal128(str(amount)).to_decimal().copy_negate())]}
        return _number("$inc", here, amount, {"$add": [here, amount]}, double, decimal, whole=True)
    negative = Decimal128(amount.to_decimal().copy_negate()) if isinstance(amount, Decimal128) else -amount
    less = {"$subtract": [here, negative]}
    return _number("$inc", here, amount, less, less, less)


def _mul(here: str, factor: Any) -> Expression:
    _check_number("$mul", factor)
    product = {"$multiply": [here, factor]}
    return _number(
        "$mul", here, {"$multiply": [factor, 0]}, product, product, product, whole=_is_whole(factor)
    )


def _check_number(operator: str, value: Any) -> None:
    if not (_is_whole(value) or isinstance(value, float | Decimal128)):
        raise _untranslatable(operator, f"it takes a number, not {value!r:.60}")


def _number(operator: str, here: str, missing: Any, *results: Expression, whole: bool = False) -> Expression:
    """The result by the type of the field as it is: whole, double, decimal."""
    refused = _raise(here, _TYPE, f"{operator} needs a number in {here[1:]!r}")
    integer, double, decimal = results
    if whole:  # beyond 64 bits MongoDB's operators fail, and its expressions turn to doubles
        overflow = _raise(here, _VALUE, f"{operator} goes beyond 64 bits in {here[1:]!r}")
        too_large = {"$eq": [_kind("$$result"), "double"]}
        integer = _result(integer, {"$cond": [too_large, overflow, "$$result"]})
    changed: Expression = {
        "$switch": {
            "branches": [
                {"case": {"$in": [_kind(here), _WHOLE]}, "then": integer},
                {"case": {"$eq": [_kind(here), "double"]}, "then": double},
                {"case": {"$eq": [_kind(here), "decimal"]}, "then": decimal},
            ],
            "default": refused,
        }
    }
    # An equal number is not written: 0.0 stays what it is, and does not become -0.0.
    equal = {"$and": [{"$eq": ["$$result", here]}, {"$eq": [_kind("$$result"), _kind(here)]}]}
    kept = _result(changed, {"$cond": [equal, here, "$$result"]})
    return {"$cond": [{"$eq": [_kind(here), "missing"]}, missing, kept]}


def _result(value: Expression, then: Expression) -> Expression:
    return {"$let": {"vars": {"result": value}, "in": then}}


def _bound(comparison: str) -> Callable[[str, Any], Expression]:
    def value(here: str, bound: Any) -> Expression:
        taken = {"$or": [{"$eq": [_kind(here), "missing"]}, {comparison: [here, {"$literal": bound}]}]}
        return {"$cond": [taken, {"$literal": bound}, here]}

    return value


def _now(_: str, argument: Any) -> Expression:
    if not (
        isinstance(argument, bool) or (isinstance(argument, Mapping) and dict(argument) == {"$type": "date"})
    ):
        raise _untranslatable("$currentDate", f"it can be a date there, and not {argument!r:.60}")
    return "$$NOW"


def _each(operator: str, argument: Any) -> list[Any]:
    if not (isinstance(argument, Mapping) and "$each" in argument):
        return [argument]
    if len(argument) > 1 or not isinstance(argument["$each"], list | tuple):
        others = ", ".join(name for name in argument if name != "$each") or "such an $each"
        raise _untranslatable(operator, f"{others} has no equivalent there")
    return list(argument["$each"])


def _array(operator: str, here: str, then: Expression) -> Expression:
    """`then` for an array, and an empty one for a field that is missing."""
    refused = _raise(here, _TYPE, f"{operator} needs an array in {here[1:]!r}")
    now = {"$cond": [{"$eq": [_kind(here), "missing"]}, {"$literal": []}, here]}
    held = {"$cond": [{"$in": [_kind(here), ["missing", "array"]]}, now, refused]}
    return {"$let": {"vars": {"held": held}, "in": then}}


def _push(here: str, argument: Any) -> Expression:
    return _array("$push", here, {"$concatArrays": ["$$held", {"$literal": _each("$push", argument)}]})


def _add_to_set(here: str, argument: Any) -> Expression:
    new = {"$concatArrays": ["$$value", ["$$this"]]}
    grown = {
        "input": {"$literal": _each("$addToSet", argument)},
        "initialValue": "$$held",
        "in": {"$cond": [{"$in": ["$$this", "$$value"]}, "$$value", new]},
    }
    return _array("$addToSet", here, {"$reduce": grown})


def _pop(here: str, end: Any) -> Expression:
    if isinstance(end, bool) or end not in (1, -1):
        raise _untranslatable("$pop", f"it takes 1 or -1, not {end!r:.60}")
    size = {"$size": "$$held"}
    kept = ["$$held", 1, size] if end == -1 else ["$$held", {"$subtract": [size, 1]}]
    short = {"$cond": [{"$lte": [size, 1]}, {"$literal": []}, {"$slice": kept}]}
    return _array("$pop", here, short)


_VALUES: dict[str, Callable[[str, Any], Expression]] = {
    "$set": _set,
    "$setOnInsert": _set,
    "$unset": _unset,
    "$rename": _renamed,
    "$inc": _inc,
    "$mul": _mul,
    "$min": _bound("$gt"),
    "$max": _bound("$lt"),
    "$currentDate": _now,
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pop": _pop,
}
