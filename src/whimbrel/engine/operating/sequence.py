"""Finds out how far migrations are, and refuses a run whose migration depends on one that is not complete."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.sequence import Dependency
from whimbrel.domain.runs.preflight_findings import CheckName, Finding, error, refuse
from whimbrel.domain.runs.run import Run, RunKind
from whimbrel.domain.runs.standing import (
    RunHistory,
    Standing,
    State,
    never_began,
    over_everything,
    standing_of,
)
from whimbrel.domain.runs.states import RunStatus
from whimbrel.ports import Ledger, Store

PAGE = 100  # runs read at once
FAILING, LAST, WHOLE = "failing", "last", "whole"

REMEDIES = {
    State.NOT_STARTED: "Run it first: whimbrel run {name}",
    State.RUNNING: "Wait for its end: whimbrel status {run} --watch",
    State.PAUSED: "Let it go on first: whimbrel resume {run}",
    State.FAILED: "Mend that first, then: whimbrel {verb} {run}",
}


def standing(store: Store, name: str, version: int, database: str | None, collection: str) -> Standing:
    """Returns how far a version of a migration is on its collection. Writes nothing."""
    database = database or store.database
    newest = store.ledger.runs.of_version(name, version, f"{database}.{collection}", limit=1)
    found = standing_of(_history(store, name, version, database, collection))
    return replace(found, newest=newest[0].id if newest else "")


def standing_of_definition(store: Store, definition: Definition) -> Standing:
    return standing(store, definition.name, definition.version, definition.database, definition.collection)


def standing_of_dependency(store: Store, dependency: Dependency) -> tuple[int, Standing]:
    """Returns the version that is complete, else the version that is needed; and how far it is."""
    needed: Standing | None = None
    for version in sorted(
        {dependency.version, *store.ledger.runs.versions(dependency.name, least=dependency.version)},
        reverse=True,
    ):
        found = _standing_anywhere(store, dependency, version)
        if found.done:
            return version, found
        needed = found if needed is None or version == dependency.version else needed
    return dependency.version, needed or standing_of(RunHistory())


def dependency_findings(store: Store, definition: Definition) -> Iterator[Finding]:
    """Yields an error for each migration that has to be complete before, and is not."""
    for dependency in definition.dependencies:
        version, found = standing_of_dependency(store, dependency)
        if not found.done:
            verb = "resume" if found.run is not None and found.run.status is RunStatus.FAILED else "retry"
            remedy = REMEDIES[found.state].format(name=dependency.name, run=found.run_id, verb=verb)
            yield error(
                CheckName.DEPENDENCIES,
                f"Migration {definition.name!r} depends on {dependency.name!r}, of which version {version} is not complete. {found.why}",
                f"{remedy} (all in sequence: whimbrel ensure {definition.name} --finish).",
                migration=dependency.name, version=version, state=str(found.state), run=found.run_id,
            )  # fmt: skip


def check_dependencies(store: Store, definition: Definition) -> None:
    """Raises DependencyIncomplete where a migration that has to be complete before is not."""
    refuse(dependency_findings(store, definition))


def _standing_anywhere(store: Store, dependency: Dependency, version: int) -> Standing:
    """Returns the standing on the collection of the dependency; before the migrations were loaded on that of its newest run."""
    if dependency.collection is not None:
        return standing(store, dependency.name, version, dependency.database, dependency.collection)
    newest = next(_runs(store.ledger, dependency.name, version, None), None)
    if newest is None:
        return standing_of(RunHistory())
    return standing(store, dependency.name, version, newest.database, newest.collection)


def _runs(
    ledger: Ledger,
    name: str,
    version: int,
    ns: str | None,
    *,
    kind: RunKind = "migration",
    since: datetime | None = None,
) -> Iterator[Run]:
    """Yields the runs of a version that began, or may begin, newest first."""
    after = None
    while page := ledger.runs.of_version(name, version, ns, kind=kind, since=since, after=after, limit=PAGE):
        yield from (run for run in page if not never_began(run))
        after = page[-1].place


def _history(store: Store, name: str, version: int, database: str, collection: str) -> RunHistory:
    """Reads the runs down to the newest over everything, and keeps no more of them than decide."""
    ledger, ns = store.ledger, f"{database}.{collection}"
    kept = (
        dict[str, Run]()
    )  # the newest in each status, the newest that left failures, the last to end, the newest over everything
    for run in _runs(ledger, name, version, ns):
        kept.setdefault(FAILING if FAILING not in kept and _leaves_failures(ledger, run) else run.status, run)
        kept[LAST] = _last_to_end(kept.get(LAST), run)
        if over_everything(run):
            kept[WHOLE] = run
            break
    runs = sorted(
        {run.id: run for run in kept.values()}.values(),
        key=lambda run: (run.created_at, run.id),
        reverse=True,
    )
    whole = kept.get(WHOLE)
    pruned = None if whole else ledger.retention.completed(name, version, ns)
    since = whole.created_at if whole else pruned.created_at if pruned else None
    if since is None:
        return RunHistory(runs=runs)
    rollback = next(_runs(ledger, name, version, ns, kind="rollback", since=since), None)
    verification = _newest_verification(ledger, whole) if whole else None
    return RunHistory(
        runs=runs, rollbacks=[rollback] if rollback else [], verifications=[verification] if verification else [],
        failing=[kept[FAILING].id] if FAILING in kept else [], uuid=store.identity(database, collection).uuid, pruned=pruned,
    )  # fmt: skip


def _last_to_end(last: Run | None, run: Run) -> Run:
    if last is None or last.ended_at is None:
        return run
    return run if run.ended_at is not None and run.ended_at > last.ended_at else last


def _leaves_failures(ledger: Ledger, run: Run) -> bool:
    if run.status is not RunStatus.COMPLETED_WITH_FAILURES:
        return False
    unresolved = ledger.failures.counts(run.id)
    return unresolved["open"] + unresolved["dead"] > 0


def _newest_verification(ledger: Ledger, run: Run) -> Run | None:
    """Returns the newest that was not cancelled: the only one that decides."""
    verifications = ledger.runs.followers(run.id, kind="verification")
    return next((found for found in verifications if found.status is not RunStatus.CANCELLED), None)
