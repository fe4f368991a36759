"""What people have said of the causes of a run's failures."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from whimbrel.domain.failures.known_causes import KnownCause


class KnownCauses(Protocol):
    """The causes of runs that were seen, or accepted. Every change is audited."""

    def of(self, run_id: str) -> Mapping[str, KnownCause]:
        """Returns them by group: at most about as many as a run has causes."""
        ...

    def accept(self, run_id: str, groups: Sequence[str], *, who: str, note: str = "") -> None:
        """Accepts causes: their failures do not count for the run's budget. Doing it again changes who, when and the note."""
        ...

    def see(self, run_id: str, groups: Sequence[str], *, who: str, note: str) -> None:
        """Notes that causes were seen: they are not new. One that is accepted stays so."""
        ...

    def withdraw(self, run_id: str, groups: Sequence[str], *, who: str, note: str = "") -> int:
        """Takes back that causes are accepted, or seen. Returns how many were."""
        ...

    def copy(self, run_id: str, to: str) -> None:
        """Copies what is known of a run's causes to another run, which continues in its place."""
        ...
