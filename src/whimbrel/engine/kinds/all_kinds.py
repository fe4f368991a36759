"""The kinds of runs: one object for each, which plans, executes and finishes its runs."""

import threading
from collections.abc import Mapping
from dataclasses import replace

from whimbrel.domain.migrations.before_images import of_run
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.marks import MARK_ROOT
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.runs.run import Run, RunKind, definition_of, for_run
from whimbrel.engine.executing import restore
from whimbrel.engine.executing.chunk_costs import ChunkCosts
from whimbrel.engine.executing.event_loop import EventLoop
from whimbrel.engine.executing.function_calls import UserFunction
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.kinds.kind import (
    FinishingContext,
    KindOfRun,
    RunOutcome,
    run_outcome,
    unresolved_failures,
)
from whimbrel.engine.kinds.migration import MigrationKind
from whimbrel.engine.operating.start_cleanup import paths_of
from whimbrel.engine.protocol_steps import Step
from whimbrel.engine.verifying.verify_batch import verify_batch
from whimbrel.ports import Documents, Ledger


class RollbackKind(KindOfRun):
    """See `engine.kinds.kind.KindOfRun`."""

    def definition_and_transform(
        self,
        lease: Lease,
        migrations: Mapping[str, Migration],  # noqa: ARG002
        loop: EventLoop,  # noqa: ARG002
    ) -> tuple[Definition, Transform]:
        return restore.definition_without_code(lease.run), restore.Restore(lease)

    def finish(self, finishing: FinishingContext) -> RunOutcome:
        run, unresolved = finishing.run, unresolved_failures(finishing)
        conflicts = unresolved["conflict"]
        conflict_note = (
            f" Changed since by the application, and left as they are: {conflicts:,}." if conflicts else ""
        )
        return run_outcome(
            unresolved,
            f"Documents that are as they were before run {run.of}: {run.counts.changed:,}.{conflict_note}",
        )


class CleanupKind(KindOfRun):
    """See `engine.kinds.kind.KindOfRun`."""

    def definition_and_transform(
        self,
        lease: Lease,
        migrations: Mapping[str, Migration],  # noqa: ARG002
        loop: EventLoop,  # noqa: ARG002
    ) -> tuple[Definition, Transform]:
        return _cleanup_definition(lease.run), restore.Restore(lease)  # an update calls no transform

    def finish(self, finishing: FinishingContext) -> RunOutcome:
        message = (
            f"Nothing of run {finishing.run.of} is left in the documents: it cannot be rolled back any more."
        )
        return run_outcome(unresolved_failures(finishing), message)


def _cleanup_definition(run: Run) -> Definition:
    """Returns what executing a batch of a cleanup needs: the update that removes what is the run's, and what is empty then."""
    image, mark = paths_of(run)
    removed = {
        path: {"$cond": [of_run(token, run.of or ""), "$$REMOVE", f"${path}"]}
        for path, token in ((image, f"${image}.token"), (mark, f"${mark}"))
    }
    empty = {"$cond": [{"$eq": [f"${MARK_ROOT}", {"$literal": {}}]}, "$$REMOVE", f"${MARK_ROOT}"]}
    return replace(
        restore.definition_without_code(run), update=[{"$set": removed}, {"$set": {MARK_ROOT: empty}}]
    )


class VerificationKind(KindOfRun):
    """See `engine.kinds.kind.KindOfRun`."""

    def definition_and_transform(
        self, lease: Lease, migrations: Mapping[str, Migration], loop: EventLoop
    ) -> tuple[Definition, Transform]:
        run = lease.run
        if run.update is not None:
            return definition_of(run), restore.Restore(lease)  # an update calls no transform
        if not run.has_user_code:
            return restore.definition_without_code(run), restore.Restore(lease)  # the transform is not called
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
        chunk_costs: ChunkCosts,  # noqa: ARG002
        step: Step,
    ) -> None:
        verify_batch(pace, documents, ledger, definition, transform, step=step)

    def finish(self, finishing: FinishingContext) -> RunOutcome | None:
        outcome = finishing.prover.outcome(finishing.run, finishing.seconds)
        return None if outcome is None else RunOutcome(*outcome)


KINDS: Mapping[RunKind, KindOfRun] = {
    "migration": MigrationKind(),
    "rollback": RollbackKind(),
    "cleanup": CleanupKind(),
    "verification": VerificationKind(),
}


def kind_of(run: Run) -> KindOfRun:
    """Returns the object for a run's kind."""
    return KINDS[run.kind]
