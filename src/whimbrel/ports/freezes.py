"""Freezes: times in which nothing that writes or reads much may go on."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from whimbrel.domain.runs.freezes import Freeze


@dataclass(frozen=True, slots=True)
class FreezeLook:
    """The freezes, and the time by the server's clock at which they were read. `revision`: increased by each change."""

    now: datetime
    freezes: Sequence[Freeze] = ()
    revision: int = 0


class Freezes(Protocol):
    """The freezes of the cluster, planned, in force and ended: few, and kept together."""

    def look(self) -> FreezeLook: ...

    def replace(self, freezes: Sequence[Freeze], *, seen: int) -> bool:
        """Stores these instead, if nobody has changed them since that revision. Returns False otherwise."""
        ...
