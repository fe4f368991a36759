"""What a person may do with a run in the state that it is in: for front doors that offer it. Each use case decides again when it is asked."""

from collections.abc import Iterator

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, RUN_EDGES, RunStatus
from whimbrel.engine.operating.stages import waits_for_approval


def possible_actions(run: Run, *, dead: int) -> frozenset[str]:
    """Returns which of approve, pause, resume, retry, cancel, settings, verify, rollback, cleanup may be asked for. `dead`: failures that wait for a person."""
    return frozenset(_actions(run, dead))


def _actions(run: Run, dead: int) -> Iterator[str]:
    targets = RUN_EDGES[run.status]
    if run.status not in ENDED:
        yield "settings"
        if waits_for_approval(run):
            yield "approve"
    if targets & {RunStatus.PAUSING, RunStatus.PAUSED} and run.status is not RunStatus.PAUSING:
        yield "pause"
    if RunStatus.CANCELLING in targets:
        yield "cancel"
    if run.undone_by is None:
        yield from _going_on(run, dead)
    if run.status in ENDED and run.kind == "migration":
        yield "verify"
        yield "cleanup"
        if run.undo and run.undone_by is None:
            yield "rollback"


def _going_on(run: Run, dead: int) -> Iterator[str]:
    again = RunStatus.QUEUED in RUN_EDGES[run.status]
    if run.status is RunStatus.PAUSING or (again and run.status is not RunStatus.COMPLETED_WITH_FAILURES):
        yield "resume"
    if again and dead and run.kind != "verification":
        yield "retry"
