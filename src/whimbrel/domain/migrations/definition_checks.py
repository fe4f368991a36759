"""Refuses definitions of migrations that cannot be carried out, each with a sentence that says what to do."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.pipelines import as_pipeline
from whimbrel.domain.migrations.valid_names import check_names
from whimbrel.errors import DefinitionInvalid, Untranslatable

_OPTIONS = frozenset(option.name for option in fields(Definition)) - {
    "update", "filter", "code_hash", "code", "summary", "uuids", "dependencies",
}  # fmt: skip


# What options are called elsewhere, where that is not similar.
_ELSEWHERE = {
    "db": "database", "table": "collection", "query": "filter", "where": "filter", "match": "filter", "selector": "filter",
    "pipeline": "update", "change": "update", "set": "update", "function": "transform", "callback": "transform",
    "retries": "max_attempts", "tries": "max_attempts", "parallel": "concurrency", "fields": "reads",
    "projection": "reads", "rollback": "undo", "images": "undo",
    "dependencies": "depends_on", "requires": "depends_on", "needs": "depends_on", "after": "depends_on",
}  # fmt: skip


def check_options(name: object, options: Mapping[str, Any]) -> None:
    """Raises DefinitionInvalid for an option that does not exist, with the one that is meant."""
    every = {*_OPTIONS, "filter", "update"}
    for option in options:
        if option not in _OPTIONS:
            suggestion = _suggestion(option, {*every, "transform"})
            hint = (
                f"Did you mean {suggestion!r}?"
                if suggestion
                else f"The options are {', '.join(sorted(every))}."
            )
            raise DefinitionInvalid(f"Migration {name!r} has an unknown option {option!r}. {hint}")


def _suggestion(option: str, known: Collection[str]) -> str | None:
    """Returns the option that is meant, if it is written in another style, or misspelled."""
    plain = {name.replace("_", ""): name for name in sorted(known)}
    normalized = option.lower().replace("_", "").replace("-", "")
    if normalized in _ELSEWHERE:
        return _ELSEWHERE[normalized]
    close = difflib.get_close_matches(normalized, plain, n=1)
    return plain[close[0]] if close else None


def check_collection(name: str, options: Mapping[str, Any]) -> None:
    """Raises DefinitionInvalid where no collection is named."""
    if not isinstance(options.get("collection"), str) or not options["collection"]:
        raise DefinitionInvalid(f"Migration {name!r} names no collection: give collection='...'.")


def with_undo(definition: Definition) -> Definition:
    """Returns the definition for a run that has to keep before-images. Raises DefinitionInvalid where it could not be rolled back."""
    check_undo(definition)
    return definition if definition.undo else replace(definition, undo=True)


def check_undo(definition: Definition) -> None:
    """Raises DefinitionInvalid where runs of the migration could not be rolled back."""
    if definition.claim:
        raise DefinitionInvalid(
            f"Migration {definition.name!r}: undo and claim exclude each other. A function with effects outside the database cannot be undone here."
        )
    if definition.update is not None:
        try:
            as_pipeline(definition.update)
        except Untranslatable as error:
            raise DefinitionInvalid(f"Migration {definition.name!r} cannot be undone: {error}") from error


def check_values(definition: Definition) -> None:
    """Raises DefinitionInvalid for an option that is out of its range, or does not fit another one."""
    wrong = f"Migration {definition.name!r}: "
    ranges: list[tuple[str, Any, int, int]] = [
        ("batch_size", definition.batch_size, 1, 100_000),
        ("max_attempts", definition.max_attempts, 1, 100),
        ("version", definition.version, 1, 1_000_000),
        ("concurrency", definition.concurrency, 1, 1000),
    ]
    for option, value, low, high in ranges:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        optional = option in ("batch_size", "max_attempts")
        if not (value is None and optional) and not (is_whole and low <= value <= high):
            raise DefinitionInvalid(
                f"{wrong}{option} must be a whole number from {low} to {high:,}, not {value!r}."
            )
    seconds = isinstance(definition.timeout, int | float) and not isinstance(definition.timeout, bool)
    if not seconds or not 0 < definition.timeout <= 3600:  # noqa: PLR2004
        raise DefinitionInvalid(
            f"{wrong}timeout must be seconds from above 0 to 3600, not {definition.timeout!r}."
        )
    choices: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("mark", definition.mark, ("marker", "status", "filter")),
        ("adopt", definition.adopt, ("ours", "all")),
        ("claim", definition.claim, (True, False)),
        ("undo", definition.undo, (True, False, "document")),
    ]
    for option, value, allowed in choices:
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in allowed):
            listed = " or ".join(repr(choice) for choice in allowed)
            raise DefinitionInvalid(f"{wrong}{option} must be {listed}, not {value!r}.")
    if definition.claim and (definition.mark != "status" or definition.declarative):
        raise DefinitionInvalid(
            f"{wrong}claim=True needs mark='status' and a function: it shows in the status field that a document is being worked on."
        )
    if definition.mark == "filter" and not definition.filter:
        raise DefinitionInvalid(f"{wrong}mark='filter' needs a filter that the change makes false.")
    check_names(definition, wrong)
