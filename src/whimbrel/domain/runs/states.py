"""The states of runs and batches, and the state machine of runs: one table, with the reason beside every unusual edge."""

from enum import StrEnum

from whimbrel.errors import StateForbids


class RunStatus(StrEnum):
    """The state of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    COMPLETED_WITH_FAILURES = "completed_with_failures"
    FAILED = "failed"


class BatchStatus(StrEnum):
    """The state of a batch: queued until it is claimed, and again when it is given back or lost; done and cancelled are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"


_R = RunStatus
RUN_EDGES: dict[RunStatus, frozenset[RunStatus]] = {
    # A run that has not begun has touched nothing and stops at once; a resumed run drains.
    _R.QUEUED: frozenset({_R.RUNNING, _R.PAUSED, _R.CANCELLED, _R.CANCELLING, _R.FAILED}),
    _R.RUNNING: frozenset({_R.PAUSING, _R.CANCELLING, _R.COMPLETED, _R.COMPLETED_WITH_FAILURES, _R.FAILED}),
    # Resumed before it has drained: the released batches are simply claimed again. A run that a worker has
    # found to be wrong drains too: another run must not get its collection while its batches are being worked on.
    _R.PAUSING: frozenset({_R.PAUSED, _R.RUNNING, _R.CANCELLING, _R.FAILED}),
    # Resumed runs queue: a run that was paused before it began may still have to wait for its collection.
    _R.PAUSED: frozenset({_R.QUEUED, _R.CANCELLING}),
    _R.CANCELLING: frozenset({_R.CANCELLED}),
    # Retry reopens the dead failures of a run that ended.
    _R.COMPLETED_WITH_FAILURES: frozenset({_R.QUEUED}),
    _R.CANCELLED: frozenset(),
    _R.COMPLETED: frozenset(),
    # The definition or the preflight broke after the start; once that is fixed, resume continues it.
    _R.FAILED: frozenset({_R.QUEUED}),
}

ENDED = frozenset({_R.COMPLETED, _R.COMPLETED_WITH_FAILURES, _R.CANCELLED, _R.FAILED})

STOPPED = frozenset({_R.PAUSING, _R.PAUSED, _R.CANCELLING, _R.CANCELLED})


def sources(target: RunStatus) -> list[RunStatus]:
    """Returns the statuses from which a run may become `target`."""
    return [status for status, targets in RUN_EDGES.items() if target in targets]


def check_run_edge(run_id: str, status: RunStatus, target: RunStatus, verb: str) -> None:
    """Raises StateForbids where a run that is `status` cannot become `target`."""
    if target not in RUN_EDGES[status]:
        raise StateForbids(f"Run {run_id} is {status} and cannot {verb}. {_advice(run_id, status, target)}")


def _advice(run_id: str, status: RunStatus, target: RunStatus) -> str:
    if status in ENDED - {_R.CANCELLED} and target in STOPPED:
        return "It has ended: nothing of it is at work."
    return {
        _R.RUNNING: "It is at work already.",
        _R.PAUSED: f"Continue it with: whimbrel resume {run_id}",
        _R.PAUSING: "It drains; wait a moment.",
        _R.CANCELLING: "It drains; wait a moment.",
        _R.COMPLETED_WITH_FAILURES: f"Open its dead failures again with: whimbrel retry {run_id}",
        _R.QUEUED: "It waits for its collection.",
        _R.FAILED: f"Mend what its error says, then: whimbrel resume {run_id}",
    }.get(status, "It has ended; start a new run.")
