"""The progress of a run by phase."""

from collections.abc import Sequence
from typing import Any

from whimbrel.domain.runs.leg_counts import LegCounts, summed
from whimbrel.domain.runs.run import LEGS_OF_STAGE, Counts, Run
from whimbrel.domain.runs.states import RunStatus

COMPLETED = (RunStatus.COMPLETED, RunStatus.COMPLETED_WITH_FAILURES)


def phase_objects(
    run: Run, counts: Counts, total_batches: int, done_batches: int
) -> Sequence[dict[str, Any]]:
    """Returns each leg of a run with its documents by outcome, as JSON has it.

    `counts` and the batches are those of the whole run: what is not added up yet is all of the present leg, as no leg begins before that.
    """
    known = summed(run.by_leg).batches == run.folded_through or not run.folded_through
    return [
        _phase_object(run, leg, counts, total_batches, done_batches, known=known)
        for leg in range(len(run.legs))
    ]


def _phase_object(
    run: Run, leg: int, counts: Counts, total_batches: int, done_batches: int, *, known: bool
) -> dict[str, Any]:
    leg_counts = run.by_leg.get(leg, LegCounts())
    planned, settled = leg_counts.batches, leg_counts.batches
    if leg == run.leg:
        leg_counts += LegCounts(
            counts.changed - run.counts.changed, counts.unchanged - run.counts.unchanged, counts.skipped - run.counts.skipped,
        )  # fmt: skip
        planned += max(0, total_batches - run.folded_through)
        settled += max(0, done_batches - run.folded_through)
    shown = known or leg > run.leg
    processed = leg_counts.changed + leg_counts.unchanged + leg_counts.skipped
    staged = run.stages is not None and leg < run.main_leg
    numbers = {
        "processedItems": processed, "changed": leg_counts.changed, "unchanged": leg_counts.unchanged, "skipped": leg_counts.skipped,
        "totalBatches": planned, "completedBatches": settled,
    }  # fmt: skip
    return {
        "leg": leg, "phase": run.legs[leg], "stage": leg // LEGS_OF_STAGE + 1 if staged else None, "state": _state(run, leg),
        **(numbers if shown else dict.fromkeys(numbers)),
    }  # fmt: skip


def _state(run: Run, leg: int) -> str:
    if leg < run.leg or run.status in COMPLETED:
        return "done"
    return "current" if leg == run.leg else "waiting"
