"""In which sequence migrations are run: what each depends on, written as `name` or `name@version`."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from whimbrel.domain.migrations.valid_names import NAME
from whimbrel.errors import DefinitionInvalid

if TYPE_CHECKING:
    from whimbrel.domain.migrations.definition import Definition

MOST = 100  # migrations that one may depend on
HIGHEST = 1_000_000  # version


@dataclass(frozen=True, slots=True)
class Dependency:
    """A migration that must be complete first. `version`: this one or a later one.

    `collection` and `database`: where its documents are, as it is loaded; None before the migrations were loaded, or for the database of
    MONGODB_DB_NAME.
    """

    name: str
    version: int = 1
    database: str | None = None
    collection: str | None = None


def read_reference(text: object) -> tuple[str, int | None] | None:
    """Reads `name` or `name@version`; returns None for what is neither."""
    if not isinstance(text, str):
        return None
    name, at, version = text.partition("@")
    if not NAME.fullmatch(name):
        return None
    if not at:
        return name, None
    is_version = (
        version.isascii() and version.isdecimal() and version[0] != "0" and len(version) <= len(str(HIGHEST))
    )
    return (name, int(version)) if is_version and int(version) <= HIGHEST else None


def check_depends_on(name: str, depends_on: Any) -> tuple[str, ...]:
    """Returns the references of a definition. Raises DefinitionInvalid for what cannot be one."""
    wrong = f"Migration {name!r}: depends_on"
    if not isinstance(depends_on, list | tuple):
        raise DefinitionInvalid(
            f"{wrong} must be a list of names, such as ['split-name', 'price-in-cents@2'], not {depends_on!r}."
        )
    if len(depends_on) > MOST:
        raise DefinitionInvalid(f"{wrong} names {len(depends_on)} migrations, and {MOST} are possible.")
    seen: set[str] = set()
    for reference in depends_on:
        read = read_reference(reference)
        if read is None:
            raise DefinitionInvalid(
                f"{wrong} holds {reference!r}: write the name of a migration, such as 'split-name', or with its version 'split-name@2'."
            )
        if read[0] == name:
            raise DefinitionInvalid(f"{wrong} names the migration itself: take {reference!r} out.")
        if read[0] in seen:
            raise DefinitionInvalid(f"{wrong} names {read[0]!r} twice: once is enough.")
        seen.add(read[0])
    return tuple(depends_on)


def dependencies_of(depends_on: tuple[str, ...]) -> tuple[Dependency, ...]:
    """Returns what a migration depends on, as far as it is known before the others are loaded."""
    read = (read_reference(reference) for reference in depends_on)
    return tuple(Dependency(name, version or 1) for name, version in filter(None, read))


def resolved(definition: "Definition", definitions: Mapping[str, "Definition"]) -> "Definition":
    """Returns a definition whose dependencies say which versions of the loaded migrations they mean, and where these are."""
    found = []
    for reference in definition.depends_on:
        name, version = read_reference(reference) or (reference, None)
        other = definitions[name]
        found.append(Dependency(name, version or other.version, other.database, other.collection))
    return replace(definition, dependencies=tuple(found))


def in_sequence(name: str, definitions: Mapping[str, "Definition"]) -> list[str]:
    """Returns a migration behind all that it depends on, directly or not, in an order in which they can be run."""
    needed: dict[str, list[str]] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current not in needed:
            needed[current] = [dependency.name for dependency in definitions[current].dependencies]
            waiting += needed[current]
    return list(TopologicalSorter(needed).static_order())


def sequence_faults(
    definitions: Mapping[str, "Definition"], sources: Mapping[str, str], unusable: Mapping[str, str]
) -> dict[str, str]:
    """Returns why migrations cannot be run in any sequence, by name: what they depend on is not there, is unusable, or depends on them.

    `sources`: the file or module of each. `unusable`: migrations that were refused for other reasons, with their files.
    """
    faults: dict[str, str] = {}
    for name, definition in definitions.items():
        if fault := next(_faults(definition, definitions, unusable), ""):
            faults[name] = fault
    while circle := _circle(
        {name: definition for name, definition in definitions.items() if name not in faults}
    ):
        path = " -> ".join(f"{name} ({sources.get(name, '?')})" for name in circle)
        for name in circle:
            faults[name] = (
                f"Migration {name!r} depends on itself, in a circle: {path}. Take one of these out of its depends_on."
            )
    while added := dict(_followers_of_faults(definitions, faults)):
        faults |= added
    return faults


def _faults(
    definition: "Definition", definitions: Mapping[str, "Definition"], unusable: Mapping[str, str]
) -> Iterator[str]:
    for reference in definition.depends_on:
        name, version = read_reference(reference) or (reference, None)
        wrong = f"Migration {definition.name!r} depends on {reference!r}"
        if name in unusable:
            yield f"{wrong}, which cannot be used: mend it first, in {unusable[name]}."
        elif name not in definitions:
            close = difflib.get_close_matches(
                name, [other for other in definitions if other != definition.name], n=1
            )
            hint = (
                f"Did you mean {close[0]!r}?"
                if close
                else "Correct depends_on, or load its file too: --migrations or WHIMBREL_MIGRATIONS."
            )
            yield f"{wrong}, and no migration of that name is loaded. {hint}"
        elif version is not None and version > definitions[name].version:
            yield f"{wrong}, and version {definitions[name].version} of {name!r} is loaded. Load the later one, or correct depends_on."


def _circle(definitions: Mapping[str, "Definition"]) -> list[str]:
    needed = {
        name: [
            read[0] for read in map(read_reference, definition.depends_on) if read and read[0] in definitions
        ]
        for name, definition in definitions.items()
    }
    try:
        TopologicalSorter(needed).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]  # each comes before the one that depends on it
        return circle[::-1]
    return []


def _followers_of_faults(
    definitions: Mapping[str, "Definition"], faults: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    for name, definition in definitions.items():
        if name not in faults:
            for reference in definition.depends_on:
                if (read := read_reference(reference)) and read[0] in faults:
                    yield (
                        name,
                        f"Migration {name!r} depends on {reference!r}, which cannot be used: {faults[read[0]]}",
                    )
                    break
