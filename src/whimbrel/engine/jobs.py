"""The kinds of runs: one object for each, which plans, executes and finishes."""

import threading
from collections.abc import Mapping
from dataclasses import replace

from whimbrel.domain.images import of_run
from whimbrel.domain.marks import MARK_ROOT
from whimbrel.domain.migration import Definition, Migration
from whimbrel.domain.runs import Run, RunKind, definition_of, for_run
from whimbrel.engine import restore
from whimbrel.engine.calls import UserFunction
from whimbrel.engine.cleanup import paths_of
from whimbrel.engine.experience import Experience
from whimbrel.engine.job import Finishing, Job, Outcome, outcome, unresolved_of
from whimbrel.engine.lease import Lease
from whimbrel.engine.loop import EventLoop
from whimbrel.engine.migrating import Migrating
from whimbrel.engine.pace import Pace
from whimbrel.engine.steps import Step
from whimbrel.engine.transform import Transform
from whimbrel.engine.verify import verify
from whimbrel.ports import Documents, Ledger


class RollingBack(Job):
    """See `engine.job.Job`."""

    def code(
        self,
        lease: Lease,
        migrations: Mapping[str, Migration],  # noqa: ARG002
        loop: EventLoop,  # noqa: ARG002
    ) -> tuple[Definition, Transform]:
        return restore.definition(lease.run), restore.Restore(lease)

    def finish(self, at: Finishing) -> Outcome:
        run, unresolved = at.run, unresolved_of(at)
        conflicts = unresolved["conflict"]
        kept = f" Changed since by the application, and left as they are: {conflicts:,}." if conflicts else ""
        return outcome(
            unresolved, f"Documents that are as they were before run {run.of}: {run.counts.changed:,}.{kept}"
        )


class CleaningUp(Job):
    """See `engine.job.Job`."""

    def code(
        self,
        lease: Lease,
        migrations: Mapping[str, Migration],  # noqa: ARG002
        loop: EventLoop,  # noqa: ARG002
    ) -> tuple[Definition, Transform]:
        return _cleanup_definition(lease.run), restore.Restore(lease)  # an update: nothing is asked

    def finish(self, at: Finishing) -> Outcome:
        said = f"Nothing of run {at.run.of} is left in the documents: it cannot be rolled back any more."
        return outcome(unresolved_of(at), said)


def _cleanup_definition(run: Run) -> Definition:
    """What executing a batch of a cleanup needs: the update that takes out what is the run's, and what is empty then."""
    image, mark = paths_of(run)
    taken = {
        path: {"$cond": [of_run(token, run.of or ""), "$$REMOVE", f"${path}"]}
        for path, token in ((image, f"${image}.token"), (mark, f"${mark}"))
    }
    empty = {"$cond": [{"$eq": [f"${MARK_ROOT}", {"$literal": {}}]}, "$$REMOVE", f"${MARK_ROOT}"]}
    return replace(restore.definition(run), update=[{"$set": taken}, {"$set": {MARK_ROOT: empty}}])


class Verifying(Job):
    """See `engine.job.Job`."""

    def code(
        self, lease: Lease, migrations: Mapping[str, Migration], loop: EventLoop
    ) -> tuple[Definition, Transform]:
        run = lease.run
        if run.update is not None:
            return definition_of(run), restore.Restore(lease)  # an update: nothing is asked
        if not run.has_user_code:
            return restore.definition(run), restore.Restore(lease)  # nothing is asked for its documents
        migration = migrations[run.migration]
        return for_run(migration.definition, run), UserFunction(migration, lease, loop)

    def execute(
        self,
        pace: Pace,
        documents: Documents,
        ledger: Ledger,
        definition: Definition,
        transform: Transform,
        *,
        turn: threading.Lock,  # noqa: ARG002
        experience: Experience,  # noqa: ARG002
        step: Step,
    ) -> None:
        verify(pace, documents, ledger, definition, transform, step=step)

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
