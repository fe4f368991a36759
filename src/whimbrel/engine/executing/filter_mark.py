"""What mark "filter" needs because its documents show nothing: counts from before the first write, and a check that the filter becomes false.

MongoDB remembers for five minutes how documents were. It is asked for that only where the replies are not enough: a process died, or
a statement met an error. The documents that were eligible at the time of the last note are counted, and the number is kept in the batch's row.
"""

from collections.abc import Iterator
from dataclasses import replace

from bson.timestamp import Timestamp

from whimbrel.domain.bson.raw_bson import keys_under
from whimbrel.domain.migrations.filters import all_of
from whimbrel.domain.runs.batches import Batch, Piece, Range
from whimbrel.domain.runs.run import Counts, Run, eligible
from whimbrel.domain.runs.states import RunStatus
from whimbrel.engine.executing.lease import Lease
from whimbrel.ports import Documents, Ledger, Query

LOOKED_AT = 20  # documents of a batch that are checked for the filter being false now


def keep_counts_before(documents: Documents, ledger: Ledger, lease: Lease, since: Timestamp | None) -> None:
    """Keeps in the batch's row how many documents were eligible, for each chunk that is not known to be done.

    `since`: a time of the cluster before anything was sent for these chunks. Nothing is kept where MongoDB does not remember it any
    more; the other marks need nothing.
    """
    run, batch = lease.run, lease.batch
    if run.marking.path is not None or batch.before is not None:
        return
    query, before = eligible(run, batch.phase, retry=batch.retry), {}
    for end, piece in batch.remaining_pieces(lease.known):
        count = documents.count_at(since, piece, query)
        if count is None:
            return
        before[end] = count
    if before:
        ledger.batches.keep_before(batch, before)
        lease.batch = replace(batch, before=before)


def check_filter_is_false(documents: Documents, ledger: Ledger, lease: Lease, counts: Counts) -> None:
    """Ends the run if changed documents still are eligible: they would be changed again.

    Looks at the beginning of the batch: a few documents may have become eligible meanwhile; when most of those that were eligible
    still are, the definition is wrong.
    """
    run, batch = lease.run, lease.batch
    if batch.phase == "follow" and run.counts.changed:
        return  # the sweep has shown that the definition is right; the application may set back few documents at any time
    query = eligible(run, batch.phase, retry=batch.retry)
    for piece in _beginnings(documents, run, batch):  # of what this claim has done
        checked = _without_rows(ledger, run, piece, query)
        before = documents.count_at(batch.began, piece, checked)
        if before is None:  # MongoDB does not remember: the number changed tells how many were eligible
            piece, before = batch.extent, counts.changed  # noqa: PLW2901
            checked = _without_rows(ledger, run, piece, query)
        if not before:
            continue
        still_eligible = documents.count(piece, checked)
        if still_eligible > before / 2:
            _fail_run(ledger, batch, still_eligible)
        return


def _beginnings(documents: Documents, run: Run, batch: Batch) -> Iterator[Piece]:
    """Yields some documents at the beginning; in case none of them was eligible, the first chunk; before the run is known to be right, all chunks."""
    pieces = [piece for _, piece in batch.remaining_pieces(batch.progress)]
    if not pieces:
        return
    if isinstance(pieces[0], Range):
        lo = pieces[0].lo
        yield Range(lo, documents.nth(Range(lo, batch.hi), LOOKED_AT) or batch.hi)
    else:
        yield pieces[0][:LOOKED_AT]
    yield from pieces if not run.counts.changed else pieces[:1]


def _without_rows(ledger: Ledger, run: Run, piece: Piece, query: Query) -> Query:
    """Leaves out what failed, or was passed over: that stays eligible."""
    rows = ledger.failures.excluded(run.id, piece)
    return all_of(query, {"_id": keys_under("$nin", rows)}) if rows else query


def _fail_run(ledger: Ledger, batch: Batch, still_eligible: int) -> None:
    error = (
        f"{still_eligible} documents that batch {batch.token} has changed still match the filter. "
        "mark='filter' needs a change that makes the filter false: choose mark='marker', and start a new run."
    )
    ledger.runs.move(
        batch.run,
        RunStatus.PAUSING,
        who=batch.worker or "",
        why=error,
        fields={"error": error, "failing": True},
    )
