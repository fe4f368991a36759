"""What is left to do until a migration is complete and verified, and how it is begun only once, whoever asks at the same moment."""

from dataclasses import replace
from typing import Any, Literal

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.sequence import Dependency
from whimbrel.domain.runs.run import Run
from whimbrel.domain.runs.standing import DONE, Standing, State, never_began
from whimbrel.domain.runs.states import ENDED, RunStatus
from whimbrel.engine.operating.sequence import standing_of_dependency
from whimbrel.engine.operating.start import Defaults
from whimbrel.engine.operating.start_verification import compose_verification
from whimbrel.errors import StateForbids
from whimbrel.ports import Store

Step = Literal["start", "wait", "resume", "retry", "verify"]
STOPPED = (RunStatus.PAUSED, RunStatus.PAUSING, RunStatus.FAILED)


def next_step(standing: Standing) -> tuple[Step, Run | None] | None:
    """Returns what is to be done next, and with which run; None where nothing is left to do, or nothing can be done without a person."""
    match standing.state:
        case State.VERIFIED:
            return None
        case State.NOT_STARTED:
            return "start", None
        case State.RUNNING:
            return "wait", standing.run
        case State.COMPLETE:
            return _towards_verified(standing)
    completed = standing.run is not None and standing.run.status is RunStatus.COMPLETED_WITH_FAILURES
    return "retry" if completed else "resume", standing.run


def _towards_verified(standing: Standing) -> tuple[Step, Run | None] | None:
    verification = standing.verification
    if verification is not None and verification.status in STOPPED:
        return "resume", verification
    if verification is not None and verification.status not in ENDED:
        return "wait", verification
    # A run whose row was pruned cannot be verified any more, and nobody knows whether its marks are still there.
    return None if standing.run is None else ("verify", standing.run)


def refuse_cleaned(store: Store, definition: Definition) -> None:
    """Raises StateForbids where a cleanup has removed marks of this version: a new run would change again what they were on."""
    if definition.mark != "marker":
        return
    ns = f"{definition.database or store.database}.{definition.collection}"
    for cleanup in store.ledger.runs.of_version(definition.name, definition.version, ns, kind="cleanup"):
        if not never_began(cleanup):
            raise StateForbids(
                f"Run {cleanup.id} has removed the marks of run {cleanup.of}: another run of {definition.name} would change those documents "
                f"again. Where that does no harm, start it yourself: whimbrel run {definition.name}"
            )


def to_start_once(run: Run, standing: Standing) -> Run:
    """Returns a run that only one process can add which saw the migration so."""
    return replace(run, start_key=f"run of {run.migration}@{run.version} on {run.ns} after {standing.newest}")


def verify_once(store: Store, standing: Standing, loaded: Definition, *, who: str, defaults: Defaults) -> Run:
    """Adds a verification that only one process can add which saw the migration so.

    Raises AlreadyStarted where another one has; and what `compose_verification` raises.
    """
    verified = standing.run_id or ""
    run = compose_verification(store, verified, loaded, defaults=defaults)
    return store.ledger.runs.add(
        replace(run, start_key=f"verification of {verified} after {standing.newest}"), who
    )


def ensure_object(store: Store, definition: Definition, version: int, standing: Standing) -> dict[str, Any]:
    """Returns the answer of the REST API and of `--json`."""
    return {
        "migration": definition.name, "version": version, "collection": f"{definition.database or store.database}.{definition.collection}",
        "state": str(standing.state), "ensured": standing.state is State.VERIFIED, "complete": standing.state in DONE, "message": standing.why,
        "migrationId": standing.run_id, "verificationId": None if standing.verification is None else standing.verification.id,
        "dependsOn": [_dependency_object(store, dependency) for dependency in definition.dependencies],
    }  # fmt: skip


def _dependency_object(store: Store, dependency: Dependency) -> dict[str, Any]:
    version, standing = standing_of_dependency(store, dependency)
    return {
        "migration": dependency.name, "version": version, "state": str(standing.state), "complete": standing.done, "migrationId": standing.run_id,
    }  # fmt: skip
