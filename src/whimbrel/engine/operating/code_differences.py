"""What is said where the code of a run and the code that is loaded here are not the same."""

from collections.abc import Iterator, Mapping

from whimbrel.domain.migrations.code import CodeFiles, differing
from whimbrel.domain.migrations.migration import Definition
from whimbrel.domain.runs.workers import NOT_LOADED
from whimbrel.ports import Ledger

NAMED = 5  # files


def differing_code(ledger: Ledger, pinned: str, here: Definition | None) -> str:
    """The files of a migration that are not those of the run's code, in a few words."""
    if here is None:
        return NOT_LOADED
    then = ledger.codes.get(pinned)
    if then is None or not here.code.files:
        return here.code_hash
    names = differing(then.files, here.code.files)
    told = [_said(name, then, here.code) for name in names[:NAMED]]
    more = [f"and {len(names) - NAMED} more"] if len(names) > NAMED else []
    return ", ".join([*told, *more]) or here.code_hash


def _said(name: str, then: CodeFiles, here: CodeFiles) -> str:
    if name not in here.files:
        return f"{name} is not here"
    return f"{name} {'differs' if name in then.files else 'is new'}"


def differing_versions(then: CodeFiles, here: CodeFiles) -> Iterator[tuple[str, str, str]]:
    """Python, Whimbrel and packages that both have, in different versions: name, then, now."""
    for name in _both(then.versions, here.versions):
        yield name, then.versions[name], here.versions[name]


def other_values(then: CodeFiles, here: CodeFiles) -> list[str]:
    """What the function uses and its module has made, in two processes, and is not the same."""
    return _both(then.values, here.values)


def _both(then: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    return [name for name in differing(then, here) if name in then and name in here]
