"""How far a run has followed the changes of its collection after its sweep."""

from dataclasses import dataclass
from datetime import datetime

LOSSES = 3  # in a row, without anything in between, after which a person must look


@dataclass(frozen=True, kw_only=True, slots=True)
class Following:
    """`position` is a resume token of a change stream: what was written before it is in batches of the ledger, or was not eligible."""

    wanted: bool = True  # False: a person has ended it, and the run goes on to its end
    position: bytes | None = None  # BSON; None: before the sweep that it follows
    at: datetime | None = None  # all that was written until then is planned, by the server's clock
    since: datetime | None = None  # when it began to follow
    counted: int = 0  # documents that were evaluated before that
    lost: int = 0  # how often MongoDB did not know any more what had changed
    lost_in_row: int = 0  # the same, without anything in between

    def behind(self, now: datetime) -> float | None:
        """Returns for how many seconds what was written is not planned yet. None: it has not begun to follow."""
        if self.at is None or self.since is None:
            return None
        return max(0.0, (now - self.at).total_seconds())
