"""Roles, workers, switches and the audit of the ledger."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.workers import Worker


class Leases(Protocol):
    """Roles that one process has at a time, workers that are alive, and the audit."""

    def lead(self, role: str, holder: str, seconds: float, *, within: float | None = None) -> bool:
        """Takes or keeps a role (coordinator of a run, sweep) for the next seconds. Returns False while another holds it.

        `within`: raises Transient where a majority has not acknowledged that so soon.
        """
        ...

    def step_down(self, holder: str, *, role: str = "") -> None:
        """Gives up all roles of a holder, or those whose names begin with `role`."""
        ...

    def beat(self, worker: str, **facts: Any) -> None:
        """Records that a worker process is alive, with the facts of its row (`domain/runs/workers.py`)."""
        ...

    def workers(self, seconds: float) -> Sequence[Worker]:
        """Returns the worker processes that gave a sign of life within the last seconds, by name."""
        ...

    def lost_workers(self, seconds: float, *, within: float, limit: int) -> Sequence[Worker]:
        """Returns worker processes that gave their last sign of life longer ago than these seconds, and no longer than `within`; the last first.

        They have ended without a word: those that end as they should are forgotten.
        """
        ...

    def leave(self, worker: str) -> None:
        """Forgets a worker that ends."""
        ...

    def slots(self, seconds: float, *, run: Run | None = None, without: str = "") -> int:
        """Counts the slots of all workers that gave a sign of life within the last seconds.

        `run`: only of workers that may work on this run, and have its migration's code. `without`: not of workers whose name
        begins with it.
        """
        ...

    def audit(self, what: str, *, run: str, who: str, why: str = "") -> None: ...

    def is_off(self, name: str) -> bool:
        """Whether a switch of the whole cluster is off. A switch that nobody has touched is on."""
        ...

    def switch(self, name: str, *, on: bool, who: str, ticket: str = "") -> bool:
        """Sets a switch. Audited. Returns False where it was so already.

        `ticket`: turns on only what was turned off with the same ticket, and by nobody since.
        """
        ...

    def remember(self, name: str, value: Mapping[str, Any], *, who: str) -> None:
        """Stores a value under a name, with the time. Audited."""
        ...

    def recall(self, name: str) -> tuple[Mapping[str, Any], datetime] | None:
        """Returns what is stored under a name, and since when."""
        ...

    def probe(self) -> float:
        """Writes a row, reads it back as the majority has it, removes it. Returns the seconds until it was read."""
        ...
