"""Identifies the code of one migration: a run pins it, and continues with no other."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from bson import json_util
from bson.errors import BSONError

from whimbrel.domain.bson.uuids import UNSPECIFIED, stored, writing
from whimbrel.domain.migrations.functions import source_of
from whimbrel.errors import DefinitionInvalid


@dataclass(frozen=True, slots=True)
class CodeFiles:
    """The user's own files that a migration consists of, each with a hash of its content, and the versions of what it depends on.

    `naive`: where its filter and its update hold times without a zone, before these are stored. `values`: hashes of what its function
    uses and its module created when it was loaded, by name; they are never stored, for the values may be secrets. A run continues with the
    same files only; other versions and values are only reported.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)
    naive: tuple[str, ...] = ()

    def pin(self, name: str) -> str:
        """Returns a hash of the files, for the migration of this name."""
        text = repr((name, sorted(self.files.items())))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def differing(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Returns the names under which the two mappings do not have the same value."""
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


class _Definition(Protocol):
    @property
    def name(self) -> str: ...


def code_hash(definition: _Definition, function: Callable[..., Any] | None) -> str:
    """Returns a hash of a migration's options, its update, and its function's source: for a migration that was not loaded from a file."""
    # What it depends on decides when it may be run, not what it does.
    without = ("uuids", "code", "depends_on", "dependencies")
    names = [option.name for option in fields(definition) if option.name not in without]  # type: ignore[arg-type]
    try:
        options = stored({name: getattr(definition, name) for name in names}, writing(UNSPECIFIED))
        text = json_util.dumps(options, json_options=json_util.CANONICAL_JSON_OPTIONS)
    except (BSONError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise DefinitionInvalid(
            f"Migration {definition.name!r} holds a value that MongoDB cannot store: {error}."
        ) from error
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass"))
    if function is not None:
        digest.update(source_of(function).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
