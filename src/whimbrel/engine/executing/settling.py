"""Settles a batch (S8): counts that are true, failures that are over, then the one write that ends it."""

from collections.abc import Iterator, Sequence

from bson.timestamp import Timestamp

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import Unresolved
from whimbrel.domain.migrations.marks import CHANGED, SKIPPED, UNCHANGED
from whimbrel.domain.runs.batch_progress import Progress
from whimbrel.domain.runs.batches import Batch, Piece, Range
from whimbrel.domain.runs.run import Counts, Run, eligible
from whimbrel.domain.runs.sizing import BatchWork
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.engine.protocol_steps import Step
from whimbrel.ports import Documents, Ledger


def settle(
    documents: Documents, ledger: Ledger, selection: BatchSelection, step: Step, work: BatchWork | None = None
) -> Counts:
    """S8: closes failures that are over, then ends the batch by one write, with the counts of its progress. `work`: what it took."""
    batch, progress = selection.lease.batch, selection.lease.known
    close_failures(documents, ledger, selection)
    counts = progress.counts
    documents.check_identity()  # an empty read must have been of the run's collection
    ledger.batches.settle(
        batch, counts, inferred=progress.inferred, progress=progress, left=progress.left, work=work,
        chunk_times=selection.tally.chunk_times,
    )  # fmt: skip
    step("S8")
    return counts


def counts_from_documents(
    documents: Documents, ledger: Ledger, run: Run, batch: Batch
) -> tuple[Counts, bool]:
    """Returns the counts of a batch that nobody works on, and True where some had to be inferred (mark "filter", hole H4)."""
    known, inferred = batch.progress.counts, batch.progress.inferred
    if batch.fresh or batch.empty:
        return known, inferred
    uncounted = list(batch.remaining_pieces(batch.progress))
    counts, inferred_too = count_pieces(documents, ledger, run, batch, batch.progress, uncounted, batch.began)
    return known + counts, inferred or inferred_too


def count_pieces(
    documents: Documents,
    ledger: Ledger,
    run: Run,
    batch: Batch,
    progress: Progress,
    pieces: Sequence[tuple[int, Piece]],
    since: Timestamp | None,
) -> tuple[Counts, bool]:
    """Counts, from the documents themselves, pieces of a batch that its progress does not tell. Returns True where the counts are inferred.

    `since`: a time of the cluster before anything was sent for these pieces.
    """
    path = run.marking.path
    if path is not None:
        return sum((documents.evidence(piece, path, batch.token) for _, piece in pieces), Counts()), False
    passed_over, noted = ledger.failures.passed_over(run.id, batch.token), progress.counts
    unchanged, skipped = (
        max(0, passed_over.unchanged - noted.unchanged),
        max(0, passed_over.skipped - noted.skipped),
    )
    changed = 0
    query = eligible(run, batch.phase, retry=batch.retry)
    for end, piece in pieces:
        before = (batch.before or {}).get(end)
        if before is None:
            before = documents.count_at(since, piece, query)
        if before is not None:  # otherwise the number changed is not known any more; nothing is made up
            changed += max(0, before - documents.count(piece, query))
    return Counts(changed, unchanged, skipped), True


def failed_in_piece(ledger: Ledger, run: Run, batch: Batch, piece: Piece) -> int:
    """Returns how many documents of a piece have failed in this batch."""
    keys = ledger.failures.excluded(run.id, piece) if isinstance(piece, Range) else piece
    rows = ledger.failures.unresolved(run, keys) if keys else ()
    return sum(row.run == run.id and row.batch == batch.token for row in rows)


def close_failures(documents: Documents, ledger: Ledger, selection: BatchSelection) -> None:
    """Resolves this migration's failures of documents that are done now, whichever run recorded them."""
    run, batch = selection.lease.run, selection.lease.batch
    if batch.empty:
        return
    for rows in _unresolved(ledger, run, batch):
        for resolution, resolved in _resolutions(documents, selection, rows).items():
            ledger.failures.resolve(resolved, resolution)


def _unresolved(ledger: Ledger, run: Run, batch: Batch) -> Iterator[Sequence[Unresolved]]:
    """Yields failures that may be over, a thousand at a time. A range takes no document that has failed in its own run."""
    where = batch.extent
    if isinstance(where, Range):
        yield from ledger.failures.of_others(run, where)
        return
    for start in range(0, len(where), 1000):
        rows = ledger.failures.unresolved(run, where[start : start + 1000])
        yield [row for row in rows if row.batch != batch.token]


def _resolutions(
    documents: Documents, selection: BatchSelection, rows: Sequence[Unresolved]
) -> dict[str, list[Unresolved]]:
    if not rows:
        return {}
    run, retry = selection.lease.run, selection.lease.batch.retry
    keys = sorted({row.key for row in rows}, key=lambda key: key.raw)
    path = run.marking.path
    tokens = documents.tokens(keys, path) if path else {}
    still_eligible = (
        {Key.of_document(document) for document in documents.read_keys(keys, selection.eligible)}
        if retry
        else set()
    )
    outcomes = {"u": UNCHANGED, "s": SKIPPED}
    resolved: dict[str, list[Unresolved]] = {}
    for row in rows:
        run_id, _, batch_and_suffix = str(tokens.get(row.key, "")).partition(".")
        suffix = batch_and_suffix.partition("/")[2]
        done_by_run = run_id == run.id and suffix in ("", *outcomes)
        if done_by_run:
            resolved.setdefault(outcomes.get(suffix, CHANGED), []).append(row)
        elif row.run == run.id and retry and row.key not in still_eligible:
            resolved.setdefault("gone" if path else CHANGED, []).append(row)
    return resolved
