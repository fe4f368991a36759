"""The kinds of runs: one object for each, which plans, executes and finishes."""

from collections.abc import Mapping

from whimbrel.domain.migration import Definition, Migration
from whimbrel.domain.runs import Run, RunKind, definition_of, for_run
from whimbrel.engine import cleanup, rollback
from whimbrel.engine.calls import Calling
from whimbrel.engine.job import Finishing, Job, Outcome, outcome, unresolved_of
from whimbrel.engine.migrating import Migrating
from whimbrel.engine.patience import patiently
from whimbrel.engine.verify import verify
from whimbrel.engine.work import Call, Work


class RollingBack(Job):
    """See `engine.job.Job`."""

    def code(self, run: Run, migrations: Mapping[str, Migration]) -> tuple[Definition, Call]:  # noqa: ARG002
        return rollback.definition(run), rollback.restore

    def finish(self, at: Finishing) -> Outcome:
        run, unresolved = at.run, unresolved_of(at)
        conflicts = unresolved["conflict"]
        kept = f" Changed since by the application, and left as they are: {conflicts:,}." if conflicts else ""
        return outcome(
            unresolved, f"Documents that are as they were before run {run.of}: {run.counts.changed:,}.{kept}"
        )


class CleaningUp(Job):
    """See `engine.job.Job`."""

    def code(self, run: Run, migrations: Mapping[str, Migration]) -> tuple[Definition, Call]:  # noqa: ARG002
        return cleanup.definition(run), rollback.restore  # an update: nothing is called

    def finish(self, at: Finishing) -> Outcome:
        said = f"Nothing of run {at.run.of} is left in the documents: it cannot be rolled back any more."
        return outcome(unresolved_of(at), said)


class Verifying(Job):
    """See `engine.job.Job`."""

    def code(self, run: Run, migrations: Mapping[str, Migration]) -> tuple[Definition, Call]:
        if run.update is not None:
            return definition_of(run), rollback.restore  # an update: nothing is called
        if not run.has_user_code:
            return rollback.definition(run), rollback.restore  # nothing is called for its documents
        migration = migrations[run.migration]
        return for_run(migration.definition, run), Calling(migration)

    def execute(self, work: Work) -> None:
        patiently(work, work.documents.check_identity)
        verify(work)

    def finish(self, at: Finishing) -> Outcome | None:
        proved = at.prover.found(at.run, at.seconds)
        return None if proved is None else Outcome(*proved)


JOBS: Mapping[RunKind, Job] = {
    "migration": Migrating(),
    "rollback": RollingBack(),
    "cleanup": CleaningUp(),
    "verification": Verifying(),
}


def job_of(run: Run) -> Job:
    """The job of a run's kind."""
    return JOBS[run.kind]
