"""Which runs have dead failures, by a fixed number of questions to the ledger."""

from dataclasses import dataclass

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import RunStatus, sources
from whimbrel.ports import Ledger

LOOKED_AT = 100  # newest runs
RETRIED = frozenset(
    {*sources(RunStatus.QUEUED), RunStatus.RUNNING, RunStatus.CANCELLED}
)  # whose failures can be tried again


@dataclass(frozen=True, slots=True)
class DeadFailures:
    """How many failures of a run are not tried again by themselves."""

    run: Run
    dead: int


@dataclass(frozen=True, slots=True)
class Dead:
    """The runs with dead failures among the newest ones. `complete`: there are no more runs that may have any."""

    runs: tuple[DeadFailures, ...]
    looked_at: int
    complete: bool


def dead_failures(ledger: Ledger, *, limit: int = LOOKED_AT) -> Dead:
    """Returns the newest runs with dead failures, newest first."""
    runs = ledger.runs.list(statuses=sorted(RETRIED), limit=limit, brief=True)
    numbers = ledger.failures.numbers_each([run.id for run in runs])
    found = [DeadFailures(run, numbers[run.id][0]["dead"]) for run in runs]
    return Dead(tuple(each for each in found if each.dead), len(runs), complete=len(runs) < limit)
