"""The ledger broker: no other server. Workers look into the ledger for queued batches themselves."""

from collections.abc import Sequence

from whimbrel.domain.runs.batches import Batch, BatchPointer
from whimbrel.domain.runs.run import Run


class LedgerBroker:
    """See `whimbrel.ports.Broker`."""

    polled = True
    queues = None

    def connect(self, seconds: float) -> None:
        """There is no other server."""

    def close(self) -> None:
        """There is nothing to close."""

    def announce(self, run: Run, batches: Sequence[Batch | BatchPointer]) -> None:
        """Nothing to tell: a row that is queued is found by whoever looks."""

    def waiting(self) -> int:
        return 0


class Look:
    """See `whimbrel.ports.Delivery`: look into the ledger."""

    token: str | None = None

    def acknowledge(self) -> None:
        """Nothing was sent."""

    def give_back(self) -> None:
        """Whoever looks finds it."""

    def pass_on(self) -> None:
        """Whoever looks finds it."""

    def refuse(self, why: str) -> None:
        """Nobody else writes into the ledger."""


class LedgerFeed:
    """See `whimbrel.ports.Feed`."""

    polled = True

    def next(self, seconds: float, *, urgent: bool) -> Look | None:  # noqa: ARG002  there is always reason to look
        return Look()

    def close(self) -> None:
        """Nothing was taken."""
