"""S10: adds the counts of settled batches to their run, a little in each tick, each batch once (hole H7)."""

import time
from collections.abc import Sequence
from dataclasses import asdict

from whimbrel.domain.runs.batches import BatchOutline
from whimbrel.domain.runs.chunk_times import ChunkTimes
from whimbrel.domain.runs.leg_counts import LegCounts, by_leg_of
from whimbrel.domain.runs.run import Counts, Run
from whimbrel.domain.runs.states import BatchStatus
from whimbrel.engine.planning.tiling import PAGE
from whimbrel.engine.protocol_steps import Step
from whimbrel.errors import LedgerIncomplete
from whimbrel.ports import Ledger

SECONDS = 0.2  # of a tick that folding one run may take
FIRST_PAGE = 50  # batches looked at first: more where all of them are settled
SETTLED = (BatchStatus.DONE, BatchStatus.CANCELLED)


def fold(ledger: Ledger, run: Run, step: Step) -> Run:
    """Folds the contiguous prefix of settled batches, in one conditional update a page. Returns the run as it is then.

    Raises LedgerIncomplete where a batch is missing: batches are stored in order, so there is never a gap.
    """
    end, limit = time.monotonic() + SECONDS, FIRST_PAGE
    while time.monotonic() < end:
        page = ledger.batches.outlines(run.id, after=run.folded_through, limit=limit)
        if page and page[0].seq != run.folded_through + 1:
            now = ledger.runs.get(run.id)
            if now is not None and now.folded_through > run.folded_through:
                return now  # another process has folded them, and merged some
            raise LedgerIncomplete(
                _lost_rows_message(
                    run, f"batch {run.id}.{run.folded_through + 1} is not there, and later ones are"
                )
            )
        settled = _settled_prefix(page, run.folded_through)
        if settled:
            step("S10")
            run = _add_up(ledger, run, settled)
        if not settled or len(settled) < limit:
            break
        limit = PAGE
    return run


def check_rows(ledger: Ledger, run: Run) -> None:
    """Raises LedgerIncomplete where fewer batches exist than were stored, or settled batches are not settled any more."""
    if run.rows is not None and ledger.batches.uuid() != run.rows:
        raise LedgerIncomplete(
            _lost_rows_message(
                run, "nobody knows whether they are as they were: their collection is another one"
            )
        )
    check_last(run, ledger.batches.last_seq(run.id))
    if ledger.batches.open_through(run.id, run.folded_through):
        raise LedgerIncomplete(
            _lost_rows_message(run, "batches that were settled, and added up, are open again")
        )


def check_last(run: Run, last: int) -> None:
    """Raises LedgerIncomplete where more batches of the run were stored than up to `last`."""
    stored = max(run.planned, run.folded_through)
    if last < stored:
        raise LedgerIncomplete(_lost_rows_message(run, f"{stored} were stored, and they end at {last}"))


def _lost_rows_message(run: Run, loss: str) -> str:
    return (
        f"The ledger has lost rows of run {run.id}: of its batches {loss}. Was whimbrel_batches dropped, or restored from a backup? Restore "
        "what belongs together and resume, or cancel the run and start a new one: what is done is done, and its documents bear their marks."
    )


def folded(ledger: Ledger, run: Run) -> bool:
    """Returns whether the run's counts include all its batches."""
    return run.folded_through >= ledger.batches.last_seq(run.id)


def _add_up(ledger: Ledger, run: Run, settled: Sequence[BatchOutline]) -> Run:
    counts = sum((batch.counts for batch in settled), Counts())
    inferred = any(batch.inferred for batch in settled)
    taken_over = any(batch.taken_over for batch in settled)
    times = sum((batch.chunk_times for batch in settled), ChunkTimes())
    by_leg = by_leg_of([(batch.tile.leg, LegCounts(**asdict(batch.counts), batches=1)) for batch in settled])
    ledger.runs.fold(
        run,
        counts,
        settled[-1].seq,
        inferred=inferred,
        taken_over=taken_over,
        chunk_times=times,
        by_leg=by_leg,
    )
    return ledger.runs.get(run.id) or run


def _settled_prefix(page: Sequence[BatchOutline], folded_through: int) -> Sequence[BatchOutline]:
    """Returns the settled batches that directly follow `folded_through`, without a gap."""
    settled: list[BatchOutline] = []
    for batch in page:
        if batch.seq != folded_through + len(settled) + 1 or batch.status not in SETTLED:
            break
        settled.append(batch)
    return settled
