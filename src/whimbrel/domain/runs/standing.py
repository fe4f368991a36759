"""How far a version of a migration is on its collection: judged from its runs, what followed them, and nothing else."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.states import ENDED, RunStatus


class State(StrEnum):
    """From nothing to all."""

    NOT_STARTED = "not_started"
    RUNNING = "running"
    PAUSED = "paused"
    FAILED = "failed"
    COMPLETE = "complete"
    VERIFIED = "verified"


DONE = frozenset({State.COMPLETE, State.VERIFIED})
AT_WORK = frozenset({RunStatus.RUNNING, RunStatus.CANCELLING})
STOPPED = frozenset({RunStatus.PAUSING, RunStatus.PAUSED})
WAITING = frozenset({RunStatus.QUEUED})


@dataclass(frozen=True, kw_only=True, slots=True)
class PrunedRun:
    """What is kept of a run over everything that completed, after its row was pruned."""

    id: str
    created_at: datetime
    ended_at: datetime
    verified: bool
    collection_uuid: bytes | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunHistory:
    """The runs of one version on one collection.

    `runs`: newest first, down to the newest over everything. `rollbacks`: those that are newer than that one. `verifications`: of that one,
    newest first. `failing`: ids of the runs with failures that are not resolved. `uuid`: of the collection as it is now; None: there is
    none, or the server does not tell. `pruned`: the newest run over everything that is not in `runs` any more.
    """

    runs: Sequence[Run] = ()
    rollbacks: Sequence[Run] = ()
    verifications: Sequence[Run] = ()
    failing: Collection[str] = ()
    uuid: bytes | None = None
    pruned: PrunedRun | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """`why`: a sentence. `run`: the one that decides it, if its row is still there; `run_id`: the same by its id; `verification`: the newest of it."""

    state: State
    why: str
    run: Run | None = None
    run_id: str | None = None
    verification: Run | None = None
    newest: str = ""  # id of the newest run of any kind when this was judged

    @property
    def done(self) -> bool:
        return self.state in DONE


def over_everything(run: Run) -> bool:
    """Whether a run is over all that its migration selects: no one has narrowed it."""
    request = run.request
    whole = request is not None and not request.abridged and not request.query
    return run.kind == "migration" and run.scope.swept and whole


def never_began(run: Run) -> bool:
    """Whether a run was cancelled before it could touch anything."""
    return run.status is RunStatus.CANCELLED and run.started_at is None


def is_verified(run: Run, verifications: Sequence[Run]) -> bool:
    """Whether the newest of these verifications, newest first, says that nothing is wrong, and began when the run had ended."""
    newest = next((found for found in verifications if found.status is not RunStatus.CANCELLED), None)
    good = newest is not None and newest.status is RunStatus.COMPLETED
    return good and newest is not None and run.ended_at is not None and newest.created_at >= run.ended_at


def standing_of(history: RunHistory) -> Standing:
    """Judges a history. The newest run over everything decides, unless a later run, or a rollback, has changed what it left."""
    runs = [run for run in history.runs if not never_began(run)]
    unended = [run for at_work in (AT_WORK, STOPPED, WAITING) for run in runs if run.status in at_work]
    if unended:
        return _of_unended(unended[0])
    whole = next((run for run in runs if over_everything(run)), None)
    if whole is None and history.pruned is None:
        return _nothing_whole(runs)
    undone = _undone(history, whole) or _failed(history, runs) or _elsewhere(history, whole)
    if undone is not None:
        return undone
    return (
        _of_pruned(history.pruned, runs)
        if whole is None
        else _of_complete(whole, runs, history.verifications)
    )


def _undone(history: RunHistory, whole: Run | None) -> Standing | None:
    """Judges what makes all start again: the run was cancelled, or something of the version was rolled back since."""
    if whole is not None and whole.status is RunStatus.CANCELLED:
        return _standing(State.NOT_STARTED, f"Run {whole.id} was cancelled.", whole)
    rollback = next((run for run in history.rollbacks if not never_began(run)), None)
    if rollback is not None:
        return _standing(State.NOT_STARTED, f"Run {rollback.of} was rolled back by run {rollback.id}.", whole)
    return None


def _failed(history: RunHistory, runs: Sequence[Run]) -> Standing | None:
    for run in runs:
        if run.status is RunStatus.FAILED:
            return _standing(
                State.FAILED,
                f"Run {run.id} has failed: {run.error or run.message or 'its row does not say why'}",
                run,
            )
        if run.id in history.failing:
            return _standing(
                State.FAILED,
                f"Run {run.id} has left failures that are not resolved: whimbrel failures {run.id}",
                run,
            )
    return None


def _elsewhere(history: RunHistory, whole: Run | None) -> Standing | None:
    uuid = whole.collection_uuid if whole is not None else history.pruned and history.pruned.collection_uuid
    if uuid is None or history.uuid == uuid:
        return None
    return _standing(
        State.NOT_STARTED,
        "The collection is another one than it was then: it was dropped, renamed or restored since.",
        None,
    )


def _standing(state: State, why: str, run: Run | None, verification: Run | None = None) -> Standing:
    return Standing(
        state=state, why=why, run=run, run_id=None if run is None else run.id, verification=verification
    )


def _of_unended(run: Run) -> Standing:
    state = State.PAUSED if run.status in STOPPED else State.RUNNING
    reason = run.error or run.message
    return _standing(state, f"Run {run.id} is {run.status}{f': {reason}' if reason else '.'}", run)


def _nothing_whole(runs: Sequence[Run]) -> Standing:
    if not runs:
        return _standing(State.NOT_STARTED, "No run of it was started.", None)
    return _standing(
        State.NOT_STARTED,
        f"No run of it was over everything: run {runs[0].id}, the newest, was over a part.",
        None,
    )


def _of_pruned(pruned: PrunedRun | None, runs: Sequence[Run]) -> Standing:
    if pruned is None:
        return _nothing_whole(runs)
    verified = pruned.verified and not runs
    state = State.VERIFIED if verified else State.COMPLETE
    known = "completed it and was verified" if verified else "completed it"
    why = f"Run {pruned.id} {known}; its record was pruned since"
    why += (
        "."
        if verified
        else ", so it cannot be verified any more; another run can: whimbrel run, then whimbrel verify."
    )
    return Standing(state=state, why=why, run_id=pruned.id)


def _of_complete(whole: Run, runs: Sequence[Run], verifications: Sequence[Run]) -> Standing:
    """Judges by the newest verification that told anything: it holds while no run of the version has ended after it began."""
    last_end = max((run.ended_at for run in runs if run.ended_at is not None), default=whole.created_at)
    relevant = [run for run in verifications if run.status is not RunStatus.CANCELLED]
    newest = relevant[0] if relevant else None
    if newest is None:
        return _standing(
            State.COMPLETE, f"Run {whole.id} completed it, and no verification of it has ended.", whole
        )
    if newest.status not in ENDED:
        return _standing(
            State.COMPLETE,
            f"Run {newest.id}, the verification of run {whole.id}, is {newest.status}.",
            whole,
            newest,
        )
    if newest.status is not RunStatus.COMPLETED:
        return _standing(
            State.COMPLETE,
            f"Run {newest.id}, the verification of run {whole.id}, has found faults, or has failed: {newest.message or newest.error}",
            whole,
            newest,
        )
    if newest.created_at < last_end:
        return _standing(
            State.COMPLETE,
            f"Run {newest.id} verified run {whole.id}, but a run of it has ended since.",
            whole,
            newest,
        )
    since = any(proof.since for proof in newest.report)
    exception = " Others have changed documents since." if since else ""
    return _standing(
        State.VERIFIED,
        f"Run {whole.id} completed it, and run {newest.id} verified that.{exception}",
        whole,
        newest,
    )
