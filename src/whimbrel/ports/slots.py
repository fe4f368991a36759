"""The batches of a run that slots have in hand."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from whimbrel.domain.runs.run import Counts


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchInHand:
    """A batch that a slot works on, and how far it is known to be."""

    token: str
    phase: str
    worker: str | None
    claimed_at: datetime | None
    estimated: int
    counts: Counts
    failed: int
    chunks: int
    chunks_done: int
    retry: bool
    takeovers: int


class Slots(Protocol):
    """What slots work on."""

    def in_hand(self, run_id: str, limit: int) -> Sequence[BatchInHand]:
        """Returns the batches of a run that are being worked on, in the order of their numbers, without their keys."""
        ...
