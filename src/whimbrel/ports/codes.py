"""The code by which runs were started: its files and their hashes."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from whimbrel.domain.migrations.code import CodeFiles


class Codes(Protocol):
    """The code files, by the hash that runs pin."""

    def keep(self, pin: str, code: CodeFiles) -> None:
        """Stores what a hash stands for, if it is not stored yet."""
        ...

    def get(self, pin: str) -> CodeFiles | None: ...

    def agree(self, run: str, files: Mapping[str, str], *, new: Collection[str]) -> Mapping[str, str]:
        """Returns a run's files that calls of its function have loaded, by name with the hash of their content.

        Those of `new` that are not stored yet are stored as given: the first report counts for all processes.
        """
        ...

    def forget(self, run: str) -> Sequence[str]:
        """Forgets all of these files. Returns their names."""
        ...
