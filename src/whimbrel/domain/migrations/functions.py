"""What is behind a callable: partials, bound methods and objects with `__call__` are functions too."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from functools import partial
from types import CodeType
from typing import Any

from whimbrel.domain.text.safe_text import shown_value
from whimbrel.errors import DefinitionInvalid

PLAIN = (type(None), bool, int, float, complex, str, bytes, datetime, date, time, timedelta)
DEPTH = 10  # of values in values that are told
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def is_function(value: object) -> bool:
    """Whether it can be called for a document: a class would make an object of it."""
    return callable(value) and not isinstance(value, type)


def innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a partial, a bound method or an object with `__call__` calls in the end."""
    for _ in range(DEPTH):
        if isinstance(function, partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif not inspect.isroutine(function) and inspect.isfunction(type(function).__call__):
            function = type(function).__call__
        else:
            break
    return function


def is_awaited(function: Callable[..., Any]) -> bool:
    """Whether a call of it gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(innermost(function))


def own_name(function: Callable[..., Any]) -> str:
    """A migration's name, made of a function's, or of the class of an object that is none: with hyphens."""
    while isinstance(function, partial):
        function = function.func
    found = getattr(function, "__name__", None)
    name = found if isinstance(found, str) else _HUMP.sub("_", type(function).__name__).lower()
    return name.strip("_").replace("_", "-")


def summary(function: Callable[..., Any]) -> str:
    """The first line of what its author says of it."""
    documented = innermost(function)
    own = documented if inspect.isroutine(function) or isinstance(function, partial) else type(function)
    return (inspect.getdoc(own) or "").partition("\n")[0]


def source_of(function: Callable[..., Any]) -> str:
    """The text of a function, and of what it was made with: the same in every process that has the same code."""
    if isinstance(function, partial):
        return "\n".join([source_of(function.func), told_about(function.args), told_about(function.keywords)])
    if inspect.ismethod(function):
        return "\n".join([_text(function), told_about(getattr(function.__self__, "__dict__", None))])
    if not inspect.isroutine(function):
        return "\n".join([_text(type(function)), told_about(getattr(function, "__dict__", None))])
    return _text(function)


def _text(code: Any) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):  # made at run time: no source, so the code itself
        found = getattr(inspect.unwrap(code), "__code__", None) if callable(code) else None
        return told_about(found) if found else str(getattr(code, "__qualname__", ""))


def told_about(value: Any, depth: int = DEPTH) -> str:
    """A value as text that holds no addresses, and no order that changes from process to process."""
    if isinstance(value, PLAIN):
        return repr(value)
    if depth == 0:
        return "..."
    if isinstance(value, CodeType):
        inner = [told_about(each, depth - 1) for each in value.co_consts]
        return repr((value.co_code, value.co_names, value.co_varnames, inner))
    if isinstance(value, set | frozenset):
        return repr(sorted(told_about(each, depth - 1) for each in value))
    if isinstance(value, list | tuple):
        return repr([told_about(each, depth - 1) for each in value])
    if isinstance(value, Mapping):
        return repr(
            [(told_about(name, depth - 1), told_about(inner, depth - 1)) for name, inner in value.items()]
        )
    if inspect.isroutine(value) or isinstance(value, partial):
        return source_of(value)
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _hint(parameters: Sequence[inspect.Parameter]) -> str:
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return " What takes *arguments does not say what it wants: a decorator that makes such a function needs functools.wraps."
    return ""


def takes_context(name: str, function: Callable[..., Any]) -> bool:
    """Whether a migration's function wants a context beside the document. Raises DefinitionInvalid for what cannot be called so."""
    if not is_function(function):
        raise DefinitionInvalid(
            f"Migration {name!r} needs a function made with def, not {shown_value(function, 60)}."
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:  # some that are written in C do not say what they take
        raise DefinitionInvalid(
            f"Migration {name!r} needs a function whose arguments can be told, not {shown_value(function, 60)}: put it in one made with def."
        ) from error
    required = [
        each
        for each in parameters
        if each.default is each.empty and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    positional = [each for each in required if each.kind is not each.KEYWORD_ONLY]
    if not required and any(
        each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD) for each in parameters
    ):
        return False
    if len(positional) not in (1, 2) or len(required) > len(positional):
        raise DefinitionInvalid(
            f"Migration {name!r}: its function must take the document, and a context if it wants one, not {len(required)} arguments ({', '.join(each.name for each in required)}).{_hint(parameters)}"
        )
    return len(positional) == 2  # noqa: PLR2004
