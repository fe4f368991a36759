"""What mark "filter" needs beside the documents, which show nothing: counts from before the first write, and a filter that becomes false.

MongoDB remembers for five minutes how documents were. It is asked for that only where the replies are not enough: a process died, or
a statement met an error. What was eligible then is counted as of the last note how far the batch is, and kept in its row.
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

LOOKED_AT = 20  # documents of a batch that are looked at whether the filter is false now


def keep_counts_before(documents: Documents, ledger: Ledger, lease: Lease, since: Timestamp | None) -> None:
    """Keep in the batch's row how many documents were eligible then, chunk by chunk of what is not known to be done.

    `since`: a time of the cluster before anything was sent for that. Nothing is kept where MongoDB does not know it any
    more; under the other marks nothing is needed.
    """
    run, batch = lease.run, lease.batch
    if run.marking.path is not None or batch.before is not None:
        return
    query, before = eligible(run, batch.phase, retry=batch.retry), {}
    for end, piece in batch.rest(lease.known):
        count = documents.count_at(since, piece, query)
        if count is None:
            return
        before[end] = count
    if before:
        ledger.batches.keep_before(batch, before)
        lease.batch = replace(batch, before=before)


def check_filter_is_false(documents: Documents, ledger: Ledger, lease: Lease, counts: Counts) -> None:
    """A document that still is eligible when it was changed would be changed again: the run ends then.

    The beginning of the batch is looked at: a few of it may have become eligible meanwhile; when it is most of those that were, the
    definition is wrong.
    """
    run, batch = lease.run, lease.batch
    query = eligible(run, batch.phase, retry=batch.retry)
    for piece in _beginnings(documents, run, batch):  # of what this claim has done
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
    pieces = [piece for _, piece in batch.rest(batch.progress)]
    if not pieces:
        return
    if isinstance(pieces[0], Range):
        lo = pieces[0].lo
        yield Range(lo, documents.nth(Range(lo, batch.hi), LOOKED_AT) or batch.hi)
    else:
        yield pieces[0][:LOOKED_AT]
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
