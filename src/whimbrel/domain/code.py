"""What identifies the code of one migration: a run pins it, and works on with no other."""

import hashlib
import inspect
from collections.abc import Callable
from dataclasses import fields
from types import CodeType
from typing import Any, Protocol

from bson import json_util
from bson.errors import BSONError

from whimbrel.domain.uuids import UNSPECIFIED, stored, writing
from whimbrel.errors import DefinitionInvalid


class _Definition(Protocol):
    @property
    def name(self) -> str: ...


def code_hash(definition: _Definition, function: Callable[..., Any] | None) -> str:
    """A hash of a migration's options, its update, and its function's source. The same in every process."""
    names = [each.name for each in fields(definition) if each.name != "uuids"]  # type: ignore[arg-type]  # that is a run's
    try:
        options = stored({name: getattr(definition, name) for name in names}, writing(UNSPECIFIED))
        text = json_util.dumps(options, json_options=json_util.CANONICAL_JSON_OPTIONS)
    except (BSONError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise DefinitionInvalid(
            f"Migration {definition.name!r} holds a value that MongoDB cannot store: {error}."
        ) from error
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    if function is not None:
        digest.update(_source(function).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # made at run time: no source, so the code itself
        code = getattr(inspect.unwrap(function), "__code__", None)
        return _told(code) if code else getattr(function, "__qualname__", "")


def _told(value: Any) -> str:
    """Compiled code as text that holds no addresses and no order that changes from process to process."""
    if isinstance(value, CodeType):
        return repr(
            (value.co_code, value.co_names, value.co_varnames, [_told(each) for each in value.co_consts])
        )
    if isinstance(value, frozenset):
        return repr(sorted(_told(each) for each in value))
    return repr(value)
