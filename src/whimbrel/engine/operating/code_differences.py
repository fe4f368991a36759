"""Describes how the code of a run and the code that is loaded here differ."""

from collections.abc import Iterator, Mapping

from whimbrel.domain.migrations.code import CodeFiles, differing
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.workers import NOT_LOADED
from whimbrel.ports import Ledger

NAMED = 5  # files at most


def differing_code(ledger: Ledger, pinned: str, here: Definition | None) -> str:
    """Lists the files of a migration that differ from those of the run's code."""
    if here is None:
        return NOT_LOADED
    pinned_code = ledger.codes.get(pinned)
    if pinned_code is None or not here.code.files:
        return here.code_hash
    names = differing(pinned_code.files, here.code.files)
    described = [_describe(name, pinned_code, here.code) for name in names[:NAMED]]
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*described, *more]) or here.code_hash


def _describe(name: str, pinned_code: CodeFiles, here: CodeFiles) -> str:
    if name not in here.files:
        return f"{name} is not here"
    return f"{name} {'differs' if name in pinned_code.files else 'is new'}"


def differing_versions(pinned: CodeFiles, here: CodeFiles) -> Iterator[tuple[str, str, str]]:
    """Yields Python, Whimbrel and packages that both have, in different versions: name, pinned version, version here."""
    for name in _both(pinned.versions, here.versions):
        yield name, pinned.versions[name], here.versions[name]


def other_values(pinned: CodeFiles, here: CodeFiles) -> list[str]:
    """Returns the names of values that the function uses and its module has made, and that are not the same in two processes."""
    return _both(pinned.values, here.values)


def _both(pinned: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    return [name for name in differing(pinned, here) if name in pinned and name in here]
