"""The terms on which a run works beside others: in which hours, and how nice it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.windows import check_windows


@dataclass(frozen=True, slots=True)
class Terms:
    """`windows`: as people write them. `nice`: 0 to 100."""

    windows: Sequence[str] = ()
    nice: int = 0

    def of(self, run: Run) -> Run:
        """Returns the run on these terms. Raises SettingsInvalid for windows that cannot be."""
        return replace(run, windows=check_windows(self.windows), nice=self.nice)


ANY_TIME = Terms()
