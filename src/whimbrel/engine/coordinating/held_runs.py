"""Says in the rows of runs what they may have of their speed, and why: to people, and to whoever looks at a run."""

import time
from collections.abc import Collection, Sequence

from whimbrel.domain.runs.allowance import Allowance, Paced
from whimbrel.domain.runs.run import Run
from whimbrel.engine.executing.gate import Gate
from whimbrel.engine.operating.stages import is_held
from whimbrel.ports import Ledger

SAME_SECONDS = 3.0  # for which a row stays as it is where only numbers change: each change is a write


class HeldRuns:
    """One coordinator's look at what holds its runs. `watched`: runs obey the database's health."""

    def __init__(self, ledger: Ledger, *, watched: bool) -> None:
        self._ledger = ledger
        self._gate = Gate(ledger.health.verdict if watched else None, ledger.freezes.look)
        self._said: dict[str, float] = {}  # run -> when its row was written

    def admit(self, at_work: Sequence[Paced]) -> None:
        self._gate.admit(at_work)

    def keep(self, runs: Collection[str]) -> None:
        """Forgets all other runs."""
        self._said = {run: moment for run, moment in self._said.items() if run in runs}

    def of(self, run: Run) -> Allowance:
        """Returns what a run may have now."""
        return self._gate.allowance_of(run).continued(run.allowance)

    def tell(self, run: Run, allowance: Allowance, other: str) -> None:
        """Stores what a run may have where that is new. `other`: what else is to be said of the run; that comes first."""
        message, now = other or allowance.explain(), time.monotonic()
        waits = is_held(run, allowance)
        if (run.working_since is None) == waits:  # its working time goes on exactly while it may work
            same_words = other == run.message if other else not run.said_otherwise
            recent = now - self._said.get(run.id, float("-inf")) < SAME_SECONDS
            if (allowance, message) == (run.allowance, run.message) or (
                recent and same_words and allowance.news == run.allowance.news
            ):
                return
        self._said[run.id] = now
        self._ledger.runs.hold(run.id, allowance, message, waits=waits)


def free_fields() -> dict[str, object]:
    """Returns the fields of a run that stops: nothing holds it back any more, nobody has to serve it, and its message must not say so."""
    return {"allowance": None, "message": ""}
