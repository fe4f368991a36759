"""Looks behind a callable: partials, bound methods and objects with `__call__` are functions too."""

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
DEPTH = 10  # of nested values that are described
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def is_function(value: object) -> bool:
    """Whether it can be called for a document: calling a class would create an object."""
    return callable(value) and not isinstance(value, type)


def innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns what a partial, a bound method or an object with `__call__` calls in the end."""
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
    """Whether calling it gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(innermost(function))


def own_name(function: Callable[..., Any]) -> str:
    """Returns a migration's name, made from a function's, or from the class of an object that is no function: with hyphens."""
    while isinstance(function, partial):
        function = function.func
    function_name = getattr(function, "__name__", None)
    name = (
        function_name if isinstance(function_name, str) else _HUMP.sub("_", type(function).__name__).lower()
    )
    return name.strip("_").replace("_", "-")


def summary(function: Callable[..., Any]) -> str:
    """Returns the first line of its docstring."""
    documented = innermost(function)
    described = documented if inspect.isroutine(function) or isinstance(function, partial) else type(function)
    return (inspect.getdoc(described) or "").partition("\n")[0]


def source_of(function: Callable[..., Any]) -> str:
    """Returns the text of a function, and of what it was made with: the same in every process that has the same code."""
    if isinstance(function, partial):
        return "\n".join(
            [source_of(function.func), stable_text(function.args), stable_text(function.keywords)]
        )
    if inspect.ismethod(function):
        return "\n".join([_text(function), stable_text(getattr(function.__self__, "__dict__", None))])
    if not inspect.isroutine(function):
        return "\n".join([_text(type(function)), stable_text(getattr(function, "__dict__", None))])
    return _text(function)


def _text(code: Any) -> str:
    try:
        return inspect.getsource(code)
    except (OSError, TypeError):  # made at run time: no source, so the code itself
        compiled = getattr(inspect.unwrap(code), "__code__", None) if callable(code) else None
        return stable_text(compiled) if compiled else str(getattr(code, "__qualname__", ""))


def stable_text(value: Any, depth: int = DEPTH) -> str:
    """Returns a value as text without addresses, and without an order that changes from process to process."""
    if isinstance(value, PLAIN):
        return repr(value)
    if depth == 0:
        return "..."
    if isinstance(value, CodeType):
        inner = [stable_text(constant, depth - 1) for constant in value.co_consts]
        return repr((value.co_code, value.co_names, value.co_varnames, inner))
    if isinstance(value, set | frozenset):
        return repr(sorted(stable_text(element, depth - 1) for element in value))
    if isinstance(value, list | tuple):
        return repr([stable_text(element, depth - 1) for element in value])
    if isinstance(value, Mapping):
        return repr(
            [(stable_text(name, depth - 1), stable_text(inner, depth - 1)) for name, inner in value.items()]
        )
    if inspect.isroutine(value) or isinstance(value, partial):
        return source_of(value)
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _hint(parameters: Sequence[inspect.Parameter]) -> str:
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return " What takes *arguments does not say what it wants: a decorator that makes such a function needs functools.wraps."
    return ""


def takes_context(name: str, function: Callable[..., Any]) -> bool:
    """Whether a migration's function takes a context beside the document. Raises DefinitionInvalid for what cannot be called that way."""
    if not is_function(function):
        raise DefinitionInvalid(
            f"Migration {name!r} needs a function made with def, not {shown_value(function, 60)}."
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:  # some functions written in C do not tell their parameters
        raise DefinitionInvalid(
            f"Migration {name!r} needs a function whose arguments can be told, not {shown_value(function, 60)}: put it in one made with def."
        ) from error
    required = [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    positional = [parameter for parameter in required if parameter.kind is not parameter.KEYWORD_ONLY]
    if not required and any(
        parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        for parameter in parameters
    ):
        return False
    if len(positional) not in (1, 2) or len(required) > len(positional):
        raise DefinitionInvalid(
            f"Migration {name!r}: its function must take the document, and a context if it wants one, not {len(required)} arguments ({', '.join(parameter.name for parameter in required)}).{_hint(parameters)}"
        )
    return len(positional) == 2  # noqa: PLR2004
