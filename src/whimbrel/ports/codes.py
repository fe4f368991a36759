"""The code by which runs were started, as far as its files go."""

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from whimbrel.domain.migrations.code import CodeFiles


class Codes(Protocol):
    """By the hash that runs pin."""

    def keep(self, pin: str, code: CodeFiles) -> None:
        """Keep what a hash stands for, if it is not kept yet."""
        ...

    def get(self, pin: str) -> CodeFiles | None: ...

    def agree(self, run: str, files: Mapping[str, str], *, new: Collection[str]) -> Mapping[str, str]:
        """What a run holds of files that calls of its function have loaded, by the name of each with the hash of its content.

        Those of `new` that it does not hold yet are kept as they are given: the first that is told holds for all processes.
        """
        ...

    def forget(self, run: str) -> Sequence[str]:
        """Hold none of these files any more. Returns their names."""
        ...
