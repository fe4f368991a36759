"""Settling a batch (S8): counts that are true, failures that are over, then the one write that ends it."""

from collections import Counter
from collections.abc import Iterator, Sequence

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.failures import Unresolved
from whimbrel.domain.marks import CHANGED, SKIPPED, UNCHANGED
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Counts, Run, eligible
from whimbrel.engine.filter_mark import count_before
from whimbrel.engine.work import Work, renew
from whimbrel.ports import Documents, Ledger


def settle(work: Work) -> Counts:
    """S8: counts that are true, failures that are over, then the one write that ends the batch."""
    counts, inferred = _counts(work)
    close_failures(work)
    work.documents.check_identity()  # what was read, and found to be nothing, was of the run's collection
    left = None if work.left is None else sum(work.left.values(), Counter({"failed": 0, "pending": 0}))
    work.ledger.batches.settle(work.batch, counts, inferred=inferred, left=left)
    work.step("S8")
    return counts


def _counts(work: Work) -> tuple[Counts, bool]:
    if work.clean:
        passed = Counts(work.tally[CHANGED], work.tally[UNCHANGED], work.tally[SKIPPED])
        return passed, False
    # When a majority has this write, it has all earlier ones of the batch too, also those that got no answer.
    renew(work.ledger, work.hold)
    return evidence(work.documents, work.ledger, work.run, work.batch)


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


def close_failures(work: Work) -> None:
    """Resolve this migration's failures of documents that are done now, whichever run recorded them."""
    if work.batch.empty:
        return
    for rows in _unresolved(work):
        for resolution, over in _resolutions(work, rows).items():
            work.ledger.failures.resolve(over, resolution)


def _unresolved(work: Work) -> Iterator[Sequence[Unresolved]]:
    """Failures that may be over, a thousand at a time. A range takes no document that has failed in its own run."""
    failures, where = work.ledger.failures, work.batch.extent
    if isinstance(where, Range):
        yield from failures.of_others(work.run, where)
        return
    for at in range(0, len(where), 1000):
        rows = failures.unresolved(work.run, where[at : at + 1000])
        yield [row for row in rows if row.batch != work.batch.token]


def _resolutions(work: Work, rows: Sequence[Unresolved]) -> dict[str, list[Unresolved]]:
    if not rows:
        return {}
    keys = sorted({row.key for row in rows}, key=lambda key: key.raw)
    path = work.run.marking.path
    tokens = work.documents.tokens(keys, path) if path else {}
    left = (
        {Key.of_document(each) for each in work.documents.read_keys(keys, work.eligible)}
        if work.retry
        else set()
    )
    outcomes = {"u": UNCHANGED, "s": SKIPPED}
    found: dict[str, list[Unresolved]] = {}
    for row in rows:
        run, _, rest = str(tokens.get(row.key, "")).partition(".")
        suffix = rest.partition("/")[2]
        ours = run == work.run.id and suffix in ("", *outcomes)
        if ours:
            found.setdefault(outcomes.get(suffix, CHANGED), []).append(row)
        elif row.run == work.run.id and work.retry and row.key not in left:
            found.setdefault("gone" if path else CHANGED, []).append(row)
    return found
