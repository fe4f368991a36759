"""What the batches of a run do, by the kind of the run."""

from collections.abc import Mapping

from whimbrel.domain.migration import Definition, Migration
from whimbrel.domain.runs import for_run
from whimbrel.engine import cleanup, rollback
from whimbrel.engine.calls import UserFunction
from whimbrel.engine.lease import Lease
from whimbrel.engine.loop import EventLoop
from whimbrel.engine.transform import Transform


def job_of(
    lease: Lease, migrations: Mapping[str, Migration], loop: EventLoop
) -> tuple[Definition, Transform]:
    """The definition by which a run's batches are executed, and what is asked for their documents."""
    run, restore = lease.run, rollback.Restore(lease)
    if run.kind == "rollback":
        return rollback.definition(run), restore
    if run.kind == "verification" and not run.has_user_code:
        return rollback.definition(run), restore  # nothing is asked for its documents
    if run.kind == "cleanup":  # an update: nothing is asked
        return cleanup.definition(run), restore
    migration = migrations[run.migration]
    return for_run(migration.definition, run), UserFunction(migration, lease, loop)
