"""The runs of the ledger that follow the changes of their collections."""

from datetime import datetime
from typing import Protocol

from whimbrel.domain.runs.run import Run


class FollowedRuns(Protocol):
    """Each write is one conditional update: on the leg in which the run was seen, and on its being at work."""

    def begin_sweep(self, run: Run, position: bytes) -> bool:
        """Opens the next phase, the sweep before a run follows, with the position from which it will."""
        ...

    def begin(self, run: Run) -> bool:
        """Opens the next phase, in which a run follows."""
        ...

    def skip(self, run: Run) -> bool:
        """Opens the last phase at once: the run is not to follow any more, and the sweep that it has just done is its last."""
        ...

    def advance(self, run: Run, position: bytes, at: datetime | None, *, ago: float = 0.0) -> bool:
        """Stores how far the run has followed, after its batches. `at`: when that was written; None: nothing was behind it, `ago` seconds ago."""
        ...

    def lose(self, run: Run, position: bytes, *, in_row: int) -> bool:
        """Opens another sweep, after which the run follows from this position. `in_row`: how often that was so, without anything in between."""
        ...
