"""The default broker: none. Workers take batches straight from the ledger by claiming them."""

from collections.abc import Sequence

from whimbrel.domain.batches import Batch


class LedgerBroker:
    """See `whimbrel.ports.Broker`."""

    def announce(self, batches: Sequence[Batch]) -> None:
        """Nothing to tell: a row that is queued is found by the next claim."""
