"""Describes how the code of a run and the code that is loaded here differ."""

from collections.abc import Iterator, Mapping

from whimbrel.domain.migrations.code import CodeFiles, differing
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.workers import NOT_LOADED
from whimbrel.ports import Ledger

NAMED = 5  # files at most


def differing_code(ledger: Ledger, pinned: str, loaded: Definition | None) -> str:
    """Lists the files of a migration that differ from those of the run's code."""
    if loaded is None:
        return NOT_LOADED
    pinned_code = ledger.codes.get(pinned)
    if pinned_code is None or not loaded.code.files:
        return loaded.code_hash
    names = differing(pinned_code.files, loaded.code.files)
    described = [_describe(name, pinned_code, loaded.code) for name in names[:NAMED]]
    others = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*described, *others]) or loaded.code_hash


def _describe(name: str, pinned_code: CodeFiles, loaded: CodeFiles) -> str:
    if name not in loaded.files:
        return f"{name} is not here"
    return f"{name} {'differs' if name in pinned_code.files else 'is new'}"


def differing_versions(pinned: CodeFiles, loaded: CodeFiles) -> Iterator[tuple[str, str, str]]:
    """Yields Python, Whimbrel and packages that both have, in different versions: name, pinned version, version here."""
    for name in _both(pinned.versions, loaded.versions):
        yield name, pinned.versions[name], loaded.versions[name]


def other_values(pinned: CodeFiles, loaded: CodeFiles) -> list[str]:
    """Returns the names of values that the function uses and its module has made, and that are not the same in two processes."""
    return _both(pinned.values, loaded.values)


def _both(pinned: Mapping[str, str], loaded: Mapping[str, str]) -> list[str]:
    return [name for name in differing(pinned, loaded) if name in pinned and name in loaded]
