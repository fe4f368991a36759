"""What the batches of a run do, by the kind of the run."""

from collections.abc import Mapping

from whimbrel.domain.migration import Definition, Migration
from whimbrel.domain.runs import Run, definition_of, for_run
from whimbrel.engine import cleanup, rollback
from whimbrel.engine.calls import Calling
from whimbrel.engine.work import Call


def job_of(run: Run, migrations: Mapping[str, Migration]) -> tuple[Definition, Call]:
    """The definition by which a run's batches are executed, and what is called for their documents."""
    if run.kind == "rollback":
        return rollback.definition(run), rollback.restore
    if run.update is not None:
        return definition_of(run), rollback.restore  # an update: nothing is called
    if run.kind == "verification" and not run.has_user_code:
        return rollback.definition(run), rollback.restore  # nothing is called for its documents
    if run.kind == "cleanup":  # an update: nothing is called
        return cleanup.definition(run), rollback.restore
    migration = migrations[run.migration]
    return for_run(migration.definition, run), Calling(migration)
