"""Finds values that a function uses and that were created when its module was loaded: they may differ between processes."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CodeType, ModuleType
from typing import Any
from uuid import UUID

from bson import ObjectId

from whimbrel.domain.migrations.functions import PLAIN, innermost, stable_text

LARGEST = 1000  # values in a collection: larger ones are tables, which hold no times
PLAIN_HERE = (*PLAIN, UUID, ObjectId)


def values_of(function: Callable[..., Any]) -> dict[str, str]:
    """Returns hashes of the plain values that a function uses, by their names: globals, defaults of arguments, what a partial or an object holds."""
    used: dict[str, Any] = {}
    for name, value in _used_values(function):
        used.setdefault(name, value)  # an argument of a partial takes precedence over a default
    texts = {name: text for name, value in used.items() if (text := _text(value)) is not None}
    return {
        name: hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16] for name, text in texts.items()
    }


def _used_values(function: Callable[..., Any]) -> Iterator[tuple[str, Any]]:
    while isinstance(function, partial):
        yield from ((f"argument {position + 1}", value) for position, value in enumerate(function.args))
        yield from ((f"argument {name}", value) for name, value in function.keywords.items())
        function = function.func
    holder = getattr(function, "__self__", None if inspect.isroutine(function) else function)
    attributes = (
        {} if holder is None or isinstance(holder, type | ModuleType) else getattr(holder, "__dict__", {})
    )
    yield from ((f"attribute {name}", value) for name, value in attributes.items())
    inner = inspect.unwrap(innermost(function))
    for parameter in inspect.signature(inner).parameters.values():
        if parameter.default is not parameter.empty:
            yield f"argument {parameter.name}", parameter.default
    scope: Mapping[str, Any] = getattr(inner, "__globals__", {})
    code = getattr(inner, "__code__", None)
    if code is not None:
        yield from ((name, scope[name]) for name in sorted(set(_names(code))) if name in scope)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _text(value: Any) -> str | None:
    """Returns the text of a plain value, or of a few of them in order; None for anything else."""
    if isinstance(value, PLAIN_HERE):
        return repr(value)
    if isinstance(value, set | frozenset):
        value = sorted(map(stable_text, value))
    parts = [*value.items()] if isinstance(value, dict) else value
    if not isinstance(parts, list | tuple) or len(parts) > LARGEST:
        return None
    flat = [value for part in parts for value in (part if isinstance(part, tuple) else [part])]
    return repr(parts) if all(isinstance(value, PLAIN_HERE) for value in flat) else None
