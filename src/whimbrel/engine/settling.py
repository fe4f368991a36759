"""Settling a batch (S8): counts that are true, failures that are over, then the one write that ends it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.failures import Unresolved
from whimbrel.domain.marks import CHANGED, SKIPPED, UNCHANGED
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Counts, Run, eligible
from whimbrel.engine.eligibility import Selection
from whimbrel.engine.filter_mark import count_before
from whimbrel.engine.steps import Step
from whimbrel.ports import Documents, Ledger


def settle(documents: Documents, ledger: Ledger, selection: Selection, step: Step) -> Counts:
    """S8: counts that are true, failures that are over, then the one write that ends the batch."""
    lease, tally = selection.lease, selection.tally
    counts, inferred = tally.counts, False
    if not tally.clean:
        # When a majority has this write, it has all earlier ones of the batch too, also those that got no answer.
        lease.renew(ledger.batches)
        counts, inferred = evidence(documents, ledger, lease.run, lease.batch)
    close_failures(documents, ledger, selection)
    left = None if tally.left is None else sum(tally.left.values(), Counter({"failed": 0, "pending": 0}))
    ledger.batches.settle(lease.batch, counts, inferred=inferred, left=left)
    step("S8")
    return counts


def evidence(documents: Documents, ledger: Ledger, run: Run, batch: Batch) -> tuple[Counts, bool]:
    """Counts from the documents themselves; True where they had to be inferred (mark "filter", hole H4)."""
    if batch.empty:
        return Counts(), False
    path = run.marking.path
    if path is not None:
        return sum((documents.evidence(piece, path, batch.token) for piece in batch.pieces), Counts()), False
    passed = ledger.failures.passed(run.id, batch.token)
    before = count_before(documents, run, batch) if batch.before is None else batch.before
    if before is None:  # what was changed is not known any more; nothing is made up
        return passed, True
    query = eligible(run, batch.phase, retry=batch.retry)
    left = sum(documents.count(piece, query) for piece in batch.pieces)
    return Counts(max(before - left, 0), passed.unchanged, passed.skipped), True


def close_failures(documents: Documents, ledger: Ledger, selection: Selection) -> None:
    """Resolve this migration's failures of documents that are done now, whichever run recorded them."""
    run, batch = selection.lease.run, selection.lease.batch
    if batch.empty:
        return
    for rows in _unresolved(ledger, run, batch):
        for resolution, over in _resolutions(documents, selection, rows).items():
            ledger.failures.resolve(over, resolution)


def _unresolved(ledger: Ledger, run: Run, batch: Batch) -> Iterator[Sequence[Unresolved]]:
    """Failures that may be over, a thousand at a time. A range takes no document that has failed in its own run."""
    where = batch.extent
    if isinstance(where, Range):
        yield from ledger.failures.of_others(run, where)
        return
    for at in range(0, len(where), 1000):
        rows = ledger.failures.unresolved(run, where[at : at + 1000])
        yield [row for row in rows if row.batch != batch.token]


def _resolutions(
    documents: Documents, selection: Selection, rows: Sequence[Unresolved]
) -> dict[str, list[Unresolved]]:
    if not rows:
        return {}
    run, retry = selection.lease.run, selection.lease.batch.retry
    keys = sorted({row.key for row in rows}, key=lambda key: key.raw)
    path = run.marking.path
    tokens = documents.tokens(keys, path) if path else {}
    left = (
        {Key.of_document(each) for each in documents.read_keys(keys, selection.eligible)} if retry else set()
    )
    outcomes = {"u": UNCHANGED, "s": SKIPPED}
    found: dict[str, list[Unresolved]] = {}
    for row in rows:
        of, _, rest = str(tokens.get(row.key, "")).partition(".")
        suffix = rest.partition("/")[2]
        ours = of == run.id and suffix in ("", *outcomes)
        if ours:
            found.setdefault(outcomes.get(suffix, CHANGED), []).append(row)
        elif row.run == run.id and retry and row.key not in left:
            found.setdefault("gone" if path else CHANGED, []).append(row)
    return found
