"""How far a batch is, chunk by chunk, and what came of its documents."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.runs.run import Counts

LEFT = ("failed", "pending")  # what the phase processing counts for other phases


@dataclass(frozen=True, slots=True)
class Stretch:
    """Chunks that were worked off together, and what came of their documents."""

    end: int  # how many of the batch's chunks are done at its end
    counts: Counts = field(default_factory=Counts)
    failed: int = 0  # documents with a failure of this batch
    left: Mapping[str, int] | None = (
        None  # of the phase processing: documents that other phases are to take, by status
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known to be done of a batch. It may be less than what was done, never more.

    `at`: the last stretch is done through this document only; None: to its end. `inferred`: some counts are differences.
    """

    stretches: tuple[Stretch, ...] = ()
    at: Key | None = None
    inferred: bool = False

    @property
    def part(self) -> Stretch | None:
        """The stretch that is not at its end."""
        return self.stretches[-1] if self.at is not None else None

    @property
    def whole(self) -> tuple[Stretch, ...]:
        return self.stretches if self.at is None else self.stretches[:-1]

    @property
    def chunks(self) -> int:
        """How many chunks of the batch are done."""
        return self.whole[-1].end if self.whole else 0

    @property
    def counts(self) -> Counts:
        return sum((each.counts for each in self.stretches), Counts())

    @property
    def failed(self) -> int:
        return sum(each.failed for each in self.stretches)

    @property
    def left(self) -> Mapping[str, int] | None:
        """None where nobody counted what is left to other phases."""
        found = [each.left for each in self.stretches if each.left is not None]
        if not found:
            return None
        return {status: sum(each.get(status, 0) for each in found) for status in LEFT}

    def through(self, stretch: Stretch, at: Key | None, *, inferred: bool) -> "Progress":
        """With a stretch that is done, through this document or to its end; in place of the one that was not at its end."""
        return Progress((*self.whole, stretch), at, self.inferred or inferred)
