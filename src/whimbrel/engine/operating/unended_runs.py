"""The runs that have not ended, those at work first, each once although they move while they are read."""

from itertools import islice

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.ports import Runs


def unended_runs(runs: Runs, later: set[RunStatus], *, most: int, ns: str | None = None) -> list[Run]:
    """Returns at most `most` runs that have not ended, oldest first; those in a state of `later` stand at the end.

    These are read before and after the others: a run that moves between two reads is met by the next one, in whichever direction.
    """
    before = islice(runs.every(later, ns=ns), most)
    moved = {run.id: run for run in before}
    begun = {run.id: run for run in islice(runs.every(set(RunStatus) - ENDED - later, ns=ns), most)}
    after = {run.id: run for run in islice(runs.every(later, ns=ns), most)}
    return list((begun | moved | begun | after).values())[:most]  # in this order, as last seen
