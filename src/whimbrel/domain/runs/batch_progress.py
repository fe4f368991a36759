"""How far a batch is, chunk by chunk, and what became of its documents."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.run import Counts

LEFT = ("failed", "pending")  # the statuses that the phase processing counts for other phases


@dataclass(frozen=True, slots=True)
class Stretch:
    """Chunks that were worked off together, and what became of their documents."""

    end: int  # how many of the batch's chunks are done when it ends
    counts: Counts = field(default_factory=Counts)
    failed: int = 0  # documents with a failure of this batch
    # In the phase processing: documents that other phases have to take, by status.
    left: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known to be done of a batch. It may be less than what was done, never more.

    `last_key`: the last stretch is done only through this document; None: to its end. `inferred`: some counts are differences.
    """

    stretches: tuple[Stretch, ...] = ()
    last_key: Key | None = None
    inferred: bool = False

    @property
    def part(self) -> Stretch | None:
        """The stretch that has not reached its end."""
        return self.stretches[-1] if self.last_key is not None else None

    @property
    def complete(self) -> tuple[Stretch, ...]:
        return self.stretches if self.last_key is None else self.stretches[:-1]

    @property
    def chunks(self) -> int:
        """How many chunks of the batch are done."""
        return self.complete[-1].end if self.complete else 0

    @property
    def counts(self) -> Counts:
        return sum((stretch.counts for stretch in self.stretches), Counts())

    @property
    def failed(self) -> int:
        return sum(stretch.failed for stretch in self.stretches)

    @property
    def left(self) -> Mapping[str, int] | None:
        """Documents left to other phases; None where nobody counted them."""
        counted = [stretch.left for stretch in self.stretches if stretch.left is not None]
        if not counted:
            return None
        return {status: sum(left.get(status, 0) for left in counted) for status in LEFT}

    def through(self, stretch: Stretch, last_key: Key | None, *, inferred: bool) -> "Progress":
        """Returns the progress with a stretch that is done through this document or to its end; it replaces the stretch that had not reached its end."""
        return Progress((*self.complete, stretch), last_key, self.inferred or inferred)
