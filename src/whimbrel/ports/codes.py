"""The code by which runs were started, as far as its files go."""

from typing import Protocol

from whimbrel.domain.code import Code


class Codes(Protocol):
    """By the hash that runs pin."""

    def keep(self, pin: str, code: Code) -> None:
        """Keep what a hash stands for, if it is not kept yet."""
        ...

    def get(self, pin: str) -> Code | None: ...
