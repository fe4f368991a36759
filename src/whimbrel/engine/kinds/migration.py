"""The migration: the kind of run that all others are about."""

from collections.abc import Mapping

from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.migration import Migration
from whimbrel.domain.runs.batches import Batch, Range
from whimbrel.domain.runs.run import definition_of, eligible, for_run
from whimbrel.engine.executing import restore
from whimbrel.engine.executing.event_loop import EventLoop
from whimbrel.engine.executing.function_calls import UserFunction
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.kinds.kind import (
    FinishingContext,
    KindOfRun,
    PlanningContext,
    RunOutcome,
    run_outcome,
    unresolved_failures,
)
from whimbrel.engine.planning import range_planning, replanning
from whimbrel.engine.planning.tiling import bound
from whimbrel.errors import Systemic, TooSlow

NEWER = 1000  # documents behind the last range that are looked at when a run ends


class MigrationKind(KindOfRun):
    """See `engine.kinds.kind.KindOfRun`."""

    def plan(self, planning: PlanningContext, room: int) -> list[Batch]:
        run, batches = planning.run, planning.ledger.batches
        # All its batches exist before it starts (engine/operating/start_by_ids.py).
        if run.scope.kind == "ids":
            raise Systemic(
                f"Not all ids of run {run.id} were stored: whoever sent them was cut off. Cancel the run, and send them again."
            )
        if run.leg < run.main_leg:
            return planning.stage_plans.batches(run, planning.documents, planning.last, room)
        key_batches = planning.key_plans.batches(run, planning.documents, planning.last, room)
        if key_batches is not None:
            return key_batches
        # A run that follows relies on its sweep: that must look at everything once more.
        if not (run.phase == "sweep" and run.follow) and replanning.counts_what_is_left(batches, run):
            return replanning.ranges_with_leftovers(batches, run, planning.last, room)
        if run.phase == "sweep" or (
            run.phase == "processing" and not planning.documents.served(eligible(run, run.phase))
        ):
            merged = replanning.merged_ranges(batches, run, planning.last, room)
            if merged is not None:
                return merged
        return range_planning.plan_ranges(run, planning.documents, planning.last, room)

    def definition_and_transform(
        self, lease: Lease, migrations: Mapping[str, Migration], loop: EventLoop
    ) -> tuple[Definition, Transform]:
        run = lease.run
        if run.update is not None:
            return definition_of(run), restore.Restore(lease)  # an update calls no transform
        migration = migrations[run.migration]
        return for_run(migration.definition, run), UserFunction(migration, lease, loop)

    def finish(self, finishing: FinishingContext) -> RunOutcome:
        unresolved = unresolved_failures(finishing)
        return run_outcome(unresolved, _end_message(finishing, unresolved))


def _end_message(finishing: FinishingContext, unresolved: Mapping[str, int]) -> str:
    """Returns what a run reports of the documents that it may have left."""
    run = finishing.run
    if run.scope.kind == "ids":
        return f"The {run.scope.limit} documents named were evaluated."
    if not run.scope.swept:
        evaluated = run.counts.total + unresolved["dead"] + unresolved["open"]
        if evaluated < (run.scope.limit or 0):
            return f"{evaluated:,} documents were evaluated, fewer than the limit of {run.scope.limit:,}: no other was eligible."
        return f"The first {run.scope.limit:,} eligible documents were evaluated; others may be left."
    if "sweep" not in run.legs:
        return f"All documents of the phase {run.legs[0]} were evaluated."
    newer = _count_newer(finishing)
    if newer is None:
        return (
            "The sweep was through. How many documents became eligible behind it could not be told in time."
        )
    if newer:
        at_least = "at least " if newer == NEWER else ""
        return f"{at_least}{newer} documents became eligible after the sweep had begun.".capitalize()
    passed_over = run.counts.unchanged + run.counts.skipped if run.marking.path is None else 0
    if unresolved["dead"] + unresolved["open"] + passed_over:
        return "Nothing eligible is left but the failures and what was passed over."
    return "Nothing eligible is left."


def _count_newer(finishing: FinishingContext) -> int | None:
    """Counts eligible documents behind what the run has looked at, which were inserted since. `NEWER` at most; None where that takes too long."""
    end = bound(finishing.ledger, finishing.run)
    if end is None:
        return 0
    try:
        return len(finishing.documents.keys(Range(end, None), eligible(finishing.run, "pending"), NEWER))
    except TooSlow:
        return None
