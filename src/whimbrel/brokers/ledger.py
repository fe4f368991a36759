"""The ledger broker, which has no server of its own: workers look for queued batches in the ledger."""

from collections.abc import Sequence

from whimbrel.domain.runs.batches import Batch, BatchPointer
from whimbrel.domain.runs.run import Run


class LedgerBroker:
    """Implements `whimbrel.ports.Broker`."""

    polled = True
    queues = None

    def connect(self, seconds: float) -> None:
        """There is no other server."""

    def close(self) -> None:
        """There is nothing to close."""

    def announce(self, run: Run, batches: Sequence[Batch | BatchPointer]) -> None:
        """Does nothing: workers find queued rows by themselves."""

    def alarmed(self) -> bool:
        return False

    def waiting(self) -> int:
        return 0


class Look:
    """Implements `whimbrel.ports.Delivery`: tells a worker to look into the ledger."""

    token: str | None = None

    def acknowledge(self) -> None:
        """Does nothing: no message was sent."""

    def give_back(self) -> None:
        """Does nothing: the next look finds it."""

    def pass_on(self) -> None:
        """Does nothing: the next look finds it."""

    def refuse(self, why: str) -> None:
        """Does nothing: only Whimbrel writes to the ledger."""


class LedgerFeed:
    """Implements `whimbrel.ports.Feed`."""

    polled = True

    def next(self, seconds: float, *, urgent: bool) -> Look | None:  # noqa: ARG002  a look is always worthwhile
        return Look()

    def close(self) -> None:
        """Nothing was taken."""
