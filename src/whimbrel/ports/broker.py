"""The broker: it carries pointers to batches, and is never asked what is true."""

from collections.abc import Sequence
from typing import Protocol

from whimbrel.domain.batches import Batch
from whimbrel.domain.runs import Run


class Broker(Protocol):
    """What coordinators need: pointers go out. It may lose them all, or deliver them twice."""

    def announce(self, run: Run, batches: Sequence[Batch]) -> None:
        """Tell workers that batches of a run are queued. Raises BrokerUnavailable; some may have gone out by then.

        The ledger broker has nothing to tell: its workers look.
        """
        ...

    @property
    def polled(self) -> bool:
        """Whether workers look into the ledger for themselves: nothing is announced."""
        ...

    def connect(self, seconds: float) -> None:
        """Wait for the broker at the start. Raises BrokerUnavailable, BrokerRefused."""
        ...

    def close(self) -> None: ...

    def waiting(self) -> int:
        """How many pointers lie ready for a worker. Raises BrokerUnavailable."""
        ...


class Delivery(Protocol):
    """Word that a batch may be ready."""

    @property
    def token(self) -> str | None:
        """Which batch. None: look for yourself."""
        ...

    def over(self) -> None:
        """Nobody needs this word any more."""
        ...

    def again(self) -> None:
        """Somebody else shall have it."""
        ...

    def refuse(self, why: str) -> None:
        """It is not ours: it is laid aside with the reason, for a person."""
        ...


class Feed(Protocol):
    """Where the slots of one worker process learn of batches."""

    @property
    def polled(self) -> bool:
        """Whether workers look into the ledger for themselves, and must wait a little where they found nothing."""
        ...

    def next(self, seconds: float, *, urgent: bool) -> Delivery | None:
        """The next word, waiting at most so long. `urgent`: only of runs whose priority is above 5."""
        ...

    def close(self) -> None:
        """Take nothing any more; what nobody has looked at goes to others."""
        ...
