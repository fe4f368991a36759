"""What a verification needs from the ledger."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.run import Counts
from whimbrel.domain.runs.verification import Proof, UnaccountedDocuments


class Proofs(Protocol):
    """What a verification needs from the ledger about a run that has ended."""

    def placed(self, extents: Mapping[str, tuple[str, Key, Key]]) -> tuple[set[str], set[str]]:
        """Takes marks' values, each with its token and the first and last document that bears it. Returns which tokens name a batch,
        and which values are inside the range of their batch. A batch of ids has no range: everything is inside.
        """
        ...

    def merged(self, tokens: Iterable[str]) -> Mapping[str, str]:
        """Returns for tokens of batches that were merged the token of the batch in which they are counted now."""
        ...

    def began(self, run_id: str, leg: int) -> datetime | None:
        """Returns when the first batch of a leg was claimed, if one was."""
        ...

    def summed(self, run_id: str) -> tuple[Counts, int, int]:
        """Returns the counts of all batches of a run, how many batches there are, and how many of those are settled."""
        ...

    def overlaps(self, token: str, end: Key) -> bool:
        """Whether the range of a batch begins before this key."""
        ...

    def tallied(self, verification_id: str) -> Mapping[str, int]:
        """Returns the numbers of all batches of a verification, added up by name."""
        ...

    def marked(self, verification_id: str, token: str) -> int:
        """Returns how many documents bear a mark of this batch, as a verification has counted them."""
        ...

    def unaccounted(self, run_id: str, verification_id: str) -> UnaccountedDocuments:
        """Compares the marks that a verification has counted with what the run's batches have counted."""
        ...

    def keep(self, verification_id: str, report: Sequence[Proof], unchanged: int) -> None:
        """Stores a verification's report, and how many documents it has no finding on."""
        ...
