"""What a process has loaded of the user's own files since it loaded the migrations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from whimbrel.domain.migrations.code import CodeFiles


@dataclass(frozen=True, slots=True)
class Later:
    """Files that were loaded by calls, by name."""

    differing: tuple[str, ...] = ()  # in the migration's code, but with different content
    others: Mapping[str, str] = field(default_factory=dict)  # not in it, with the hashes of their contents
    stale: frozenset[str] = frozenset()  # of those, the files that have different content now


class Loaded(Protocol):
    """Tells what a function loads only when it is called, as the interpreter reports it."""

    @property
    def times(self) -> int:
        """How many files were loaded that way; it only grows."""
        ...

    def later(self, code: CodeFiles) -> Later:
        """Returns what was loaded besides the files of this code, as they were when the migrations were loaded."""
        ...


class NothingLoaded:
    """Used where migrations come from no file. See `Loaded`."""

    times = 0

    def later(self, code: CodeFiles) -> Later:  # noqa: ARG002
        return Later()
