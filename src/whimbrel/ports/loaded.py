"""What a process has loaded of the user's own files since it loaded the migrations."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from whimbrel.domain.migrations.code import CodeFiles


@dataclass(frozen=True, slots=True)
class Later:
    """Files that were loaded by calls, by their names."""

    differing: tuple[str, ...] = ()  # of the migration's code, with another content than it is known by
    others: Mapping[str, str] = field(default_factory=dict)  # not in it, with the hashes of their contents
    stale: frozenset[str] = frozenset()  # of those: the file has another content now


class Loaded(Protocol):
    """What a function loads only when it is called is told by the interpreter."""

    @property
    def times(self) -> int:
        """How many files were loaded so: it grows."""
        ...

    def later(self, code: CodeFiles) -> Later:
        """Besides the files of this code, as they were when the migrations were loaded."""
        ...


class NothingLoaded:
    """Where migrations come from no file. See `Loaded`."""

    times = 0

    def later(self, code: CodeFiles) -> Later:  # noqa: ARG002
        return Later()
