"""What mark "filter" needs beside the documents, which show nothing: counts from before the first write, and a filter that becomes false.

MongoDB remembers for five minutes how documents were. A batch is asked for that only when its own counts are not enough: it was
given back, or its process died. One that takes longer is asked for early, and the number kept in its row.
"""

from collections.abc import Iterator
from dataclasses import replace

from whimbrel.domain.batches import Batch, Piece, Range
from whimbrel.domain.filters import all_of
from whimbrel.domain.raw import keys_under
from whimbrel.domain.runs import Counts, Run, eligible
from whimbrel.domain.states import RunStatus
from whimbrel.engine.lease import Lease
from whimbrel.ports import Documents, Ledger, Query

LOOKED_AT = 20  # documents of a batch that are looked at whether the filter is false now


def count_before(documents: Documents, run: Run, batch: Batch) -> int | None:
    """How many documents of a batch were eligible when it was claimed first; None where that is too long ago."""
    query = eligible(run, batch.phase, retry=batch.retry)
    counts = [documents.count_at(batch.began, piece, query) for piece in batch.pieces]
    return None if None in counts else sum(count or 0 for count in counts)


def keep_before(documents: Documents, ledger: Ledger, lease: Lease) -> None:
    """Keep that number in the batch's row, while MongoDB knows it. Under the other marks nothing is needed."""
    batch = lease.batch
    if lease.run.marking.path is not None or batch.before is not None or batch.empty:
        return
    before = count_before(documents, lease.run, batch)
    if before is not None:
        ledger.batches.note(batch, before=before)
        lease.batch = replace(batch, before=before)


def check_filter_is_false(documents: Documents, ledger: Ledger, lease: Lease, counts: Counts) -> None:
    """A document that still is eligible when it was changed would be changed again: the run ends then.

    The beginning of the batch is looked at: a few of it may have become eligible meanwhile; when it is most of those that were, the
    definition is wrong.
    """
    run, batch = lease.run, lease.batch
    query = eligible(run, batch.phase, retry=batch.retry)
    for piece in _beginnings(documents, run, batch):
        rest = _without_rows(ledger, run, piece, query)
        before = documents.count_at(batch.began, piece, rest)
        if before is None:  # nothing is remembered: what was changed tells how many were eligible
            piece, before = batch.extent, counts.changed  # noqa: PLW2901
            rest = _without_rows(ledger, run, piece, query)
        if not before:
            continue
        still = documents.count(piece, rest)
        if still > before / 2:
            _end(ledger, batch, still)
        return


def _beginnings(documents: Documents, run: Run, batch: Batch) -> Iterator[Piece]:
    """Some documents at the beginning; should none of them have been eligible, the first chunk; before the run is known to be right, all."""
    if batch.ids is None:
        yield Range(batch.lo, documents.nth(batch.range, LOOKED_AT) or batch.hi)
    else:
        yield batch.ids[:LOOKED_AT]
    pieces = list(batch.pieces)
    yield from pieces if not run.counts.changed else pieces[:1]


def _without_rows(ledger: Ledger, run: Run, piece: Piece, query: Query) -> Query:
    """Not what failed, or was passed over: that stays eligible."""
    rows = ledger.failures.excluded(run.id, piece)
    return all_of(query, {"_id": keys_under("$nin", rows)}) if rows else query


def _end(ledger: Ledger, batch: Batch, still: int) -> None:
    error = (
        f"{still} documents that batch {batch.token} has changed still match the filter. "
        "mark='filter' needs a change that makes the filter false: choose mark='marker', and start a new run."
    )
    ledger.runs.move(
        batch.run,
        RunStatus.PAUSING,
        who=batch.worker or "",
        why=error,
        fields={"error": error, "failing": True},
    )
