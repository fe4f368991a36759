"""The kind of run that all others are about: a migration."""

from collections.abc import Mapping

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.migration import Definition, Migration
from whimbrel.domain.runs import definition_of, eligible, for_run
from whimbrel.engine import hops, restore, sweeping
from whimbrel.engine.calls import UserFunction
from whimbrel.engine.job import Finishing, Job, Outcome, Planning, outcome, unresolved_of
from whimbrel.engine.lease import Lease
from whimbrel.engine.loop import EventLoop
from whimbrel.engine.tiling import bound
from whimbrel.engine.transform import Transform
from whimbrel.errors import Systemic, TooSlow

NEWER = 1000  # documents behind the last range that the end of a run looks at


class Migrating(Job):
    """See `engine.job.Job`."""

    def plan(self, at: Planning, room: int) -> list[Batch]:
        run, batches = at.run, at.ledger.batches
        if run.scope.kind == "ids":  # its batches are all there before it starts (engine/bulk.py)
            raise Systemic(
                f"Not all ids of run {run.id} were stored: whoever sent them was cut off. Cancel the run, and send them again."
            )
        gathered = at.gatherings.batches(run, at.documents, at.last, room)
        if gathered is not None:
            return gathered
        if sweeping.counted(batches, run):
            return sweeping.leftover(batches, run, at.last, room)
        if run.phase == "sweep" or (
            run.phase == "processing" and not at.documents.served(eligible(run, run.phase))
        ):
            found = sweeping.merged(batches, run, at.last, room)
            if found is not None:
                return found
        return hops.ranges(run, at.documents, at.last, room)

    def code(
        self, lease: Lease, migrations: Mapping[str, Migration], loop: EventLoop
    ) -> tuple[Definition, Transform]:
        run = lease.run
        if run.update is not None:
            return definition_of(run), restore.Restore(lease)  # an update: nothing is asked
        migration = migrations[run.migration]
        return for_run(migration.definition, run), UserFunction(migration, lease, loop)

    def finish(self, at: Finishing) -> Outcome:
        unresolved = unresolved_of(at)
        return outcome(unresolved, _left(at, unresolved))


def _left(at: Finishing, unresolved: Mapping[str, int]) -> str:
    """What a run says of the documents that it may have left."""
    run = at.run
    if run.scope.kind == "ids":
        return f"The {run.scope.limit} documents named were evaluated."
    if not run.scope.swept:
        evaluated = run.counts.total + unresolved["dead"] + unresolved["open"]
        if evaluated < (run.scope.limit or 0):
            return f"{evaluated:,} documents were evaluated, fewer than the limit of {run.scope.limit:,}: no other was eligible."
        return f"The first {run.scope.limit:,} eligible documents were evaluated; others may be left."
    if "sweep" not in run.legs:
        return f"All documents of the phase {run.legs[0]} were evaluated."
    newer = _newer(at)
    if newer is None:
        return (
            "The sweep was through. How many documents became eligible behind it could not be told in time."
        )
    if newer:
        more = "at least " if newer == NEWER else ""
        return f"{more}{newer} documents became eligible after the sweep had begun.".capitalize()
    passed = run.counts.unchanged + run.counts.skipped if run.marking.path is None else 0
    if unresolved["dead"] + unresolved["open"] + passed:
        return "Nothing eligible is left but the failures and what was passed over."
    return "Nothing eligible is left."


def _newer(at: Finishing) -> int | None:
    """Eligible documents behind what the run has looked at: those were inserted since. `NEWER` at most; None where that takes too long."""
    end = bound(at.ledger, at.run)
    if end is None:
        return 0
    try:
        return len(at.documents.keys(Range(end, None), eligible(at.run, "pending"), NEWER))
    except TooSlow:
        return None
