"""What a function uses that was made when its module was loaded: such a value may be another one in each process."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType, ModuleType
from typing import Any
from uuid import UUID

from bson import ObjectId

from whimbrel.domain.migrations.functions import PLAIN, innermost, told_about

LARGEST = 1000  # values in one: larger ones are tables, which hold no times
PLAIN_HERE = (*PLAIN, UUID, ObjectId)


def values_of(function: Callable[..., Any]) -> dict[str, str]:
    """Hashes of the plain values that a function uses, by their names: globals, defaults of arguments, what a partial or an object holds."""
    used: dict[str, Any] = {}
    for name, value in _used(function):
        used.setdefault(name, value)  # what a partial gives stands before a default
    found = {name: text for name, value in used.items() if (text := _text(value)) is not None}
    return {
        name: hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16] for name, text in found.items()
    }


def _used(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    while isinstance(function, partial):
        yield from ((f"argument {at + 1}", value) for at, value in enumerate(function.args))
        yield from ((f"argument {name}", value) for name, value in function.keywords.items())
        function = function.func
    holder = getattr(function, "__self__", None if inspect.isroutine(function) else function)
    held = {} if holder is None or isinstance(holder, type | ModuleType) else getattr(holder, "__dict__", {})
    yield from ((f"attribute {name}", value) for name, value in held.items())
    inner = inspect.unwrap(innermost(function))
    for each in inspect.signature(inner).parameters.values():
        if each.default is not each.empty:
            yield f"argument {each.name}", each.default
    scope: Mapping[str, Any] = getattr(inner, "__globals__", {})
    code = getattr(inner, "__code__", None)
    if code is not None:
        yield from ((name, scope[name]) for name in sorted(set(_names(code))) if name in scope)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def _text(value: Any) -> str | None:
    """A plain value, or a few of them, in their order; None for anything else."""
    if isinstance(value, PLAIN_HERE):
        return repr(value)
    if isinstance(value, set | frozenset):
        value = sorted(map(told_about, value))
    parts = [*value.items()] if isinstance(value, dict) else value
    if not isinstance(parts, list | tuple) or len(parts) > LARGEST:
        return None
    flat = [one for each in parts for one in (each if isinstance(each, tuple) else [each])]
    return repr(parts) if all(isinstance(each, PLAIN_HERE) for each in flat) else None
