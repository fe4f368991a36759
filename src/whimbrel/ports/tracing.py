"""Spans of what is done, for those who collect them."""

from typing import Protocol

from whimbrel.domain.runs.batches import Batch
from whimbrel.domain.runs.run import Counts, Run


class BatchSpan(Protocol):
    """The span of a batch that a slot works on."""

    def end(self, outcome: str, counts: Counts, failed: int, *, error: str = "") -> None:
        """Ends it. `outcome`: settled, given back, lost, or broken. `error`: what broke it."""
        ...


class Tracing(Protocol):
    """Makes spans. All spans of a run are of one trace, whichever process makes them. Never waits for a collector, and raises nothing."""

    def batch(self, run: Run, batch: Batch) -> BatchSpan:
        """Begins the span of a batch, a child of its run's span."""
        ...

    def run_ended(self, run: Run) -> None:
        """Makes the span of a run that has ended."""
        ...

    def close(self) -> None:
        """Sends what there is, as long as that does not take long."""
        ...
