"""Executing a claimed batch from its first chunk to its settlement (S4 to S8)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.failures import Unresolved, death
from whimbrel.domain.marks import CHANGED, SKIPPED, UNCHANGED
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import Counts, Phase, Run, eligible
from whimbrel.domain.states import RunStatus
from whimbrel.engine import declarative, function
from whimbrel.engine.verify import verify
from whimbrel.engine.work import Work, patiently, record, remaining
from whimbrel.ports import Documents, Ledger, Query

RETRIED = 100  # documents of a retry that are read at once: their size is not known


def execute(work: Work) -> None:
    """Work a batch off and settle it.

    Transient troubles are waited out here for as long as the lease holds. Raises Stopped, LeaseLost or Systemic.
    """
    if work.run.kind == "verification":
        verify(work)
        return
    work.clean = work.batch.claims == 1
    patiently(work, lambda: _prepare(work))
    for chunk in _chunks(work):
        patiently(work, lambda chunk=chunk: _chunk(work, chunk))  # type: ignore[misc]
    counts = patiently(work, lambda: settle(work))
    if work.run.marking.path is None and counts.changed:
        _check_filter_is_false(work, counts)


def _prepare(work: Work) -> None:
    batch = work.batch
    if batch.suspect is not None:
        _charge(work, batch.suspect)
    if not batch.retry and (batch.claims > 1 or batch.phase in ("sweep", "processing", "failed")):
        work.excluded = set(work.ledger.failures.excluded(work.run.id, _extent(batch)))
    if batch.phase == "processing":
        work.tokens = _takeable(work)
    if work.run.marking.path is None and batch.before is None:  # no other evidence (hole H4)
        before = work.documents.count(_extent(batch), eligible(work.run, batch.phase, retry=work.retry))
        work.ledger.batches.note(batch, before=before)
        work.batch = replace(work.batch, before=before)


def _charge(work: Work, suspect: Key) -> None:
    """A process died alone with this document in hand: that is an attempt of the document's.

    Unless it was done by then, or its failure was recorded.
    """
    rows = work.ledger.failures.unresolved(work.run, [suspect])
    recorded = any(row.run == work.run.id and row.batch == work.batch.token for row in rows)
    still = not recorded and work.documents.read_keys(
        [suspect], eligible(work.run, work.batch.phase, retry=True)
    )
    if still:
        record(work.ledger, work.hold, [death(suspect)])
    work.batch = replace(work.batch, at=suspect if work.batch.ids is None else work.batch.at, suspect=None)
    work.ledger.batches.note(work.batch, at=work.batch.at)


def _takeable(work: Work) -> Query:
    """Whose documents the phase processing may take: those of batches that nobody works on (hole H23)."""
    path = work.run.marking.path or ""
    tokens = work.documents.token_values(work.batch.range, eligible(work.run, "processing"), path)
    known, live = work.ledger.batches.live([token.partition("/")[0] for token in tokens])
    live -= {work.batch.token}
    if work.run.adopt == "all":
        held = [token for token in tokens if token.partition("/")[0] in live]
        return {path: {"$nin": held}} if held else {}
    return {path: {"$in": [token for token in tokens if token.partition("/")[0] in known - live]}}


def _extent(batch: Batch) -> Range | Sequence[Key]:
    return batch.range if batch.ids is None else batch.ids


def _chunks(work: Work) -> list[Range | Sequence[Key]]:
    batch = work.batch
    if batch.empty:
        return []
    if batch.ids is not None:
        return [batch.ids[at : at + 1000] for at in range(0, len(batch.ids), 1000)]
    return list(declarative.chunks(work)) if work.run.declarative else [remaining(batch)]


def _chunk(work: Work, what: Range | Sequence[Key]) -> None:
    if isinstance(what, Range):
        if work.run.declarative:
            for part in declarative.parts(work, what):
                declarative.change_range(work, part)
                work.step("S6")
        else:
            function.work_through(work)
        return
    attempts = _attempts(work, what)
    if work.run.declarative:
        _change_keys(work, list(attempts))
        return
    while attempts:
        _call_for(work, attempts)


def _change_keys(work: Work, keys: Sequence[Key]) -> None:
    """Documents by their keys, as many at a time as the run's rate allows."""
    while keys:
        part = keys[: work.pace.chunk]
        declarative.change_keys(work, part)
        work.step("S6")
        keys = keys[len(part) :]
        if keys:
            work.between_chunks()


def _call_for(work: Work, attempts: dict[Key, int]) -> None:
    """Retry documents by their keys, as many as one chunk takes; they leave `attempts` when they are done."""
    work.between_chunks()
    most = work.definition.concurrency if work.run.claim else RETRIED
    keys = list(attempts)[: 1 if work.batch.solo else min(most, work.pace.chunk)]
    documents = work.documents.read_keys(keys, work.eligible)
    done = function.change(work, documents, attempts) if documents else 0
    reached = {Key.of_document(document) for document in documents[:done]}
    unreached = {Key.of_document(document) for document in documents[done:]}
    for key in keys:
        if key in reached or key not in unreached:
            del attempts[key]


def _attempts(work: Work, keys: Sequence[Key]) -> dict[Key, int]:
    """Which of these documents this batch has still to try, and the how-manieth try that is."""
    if not work.retry:
        return dict.fromkeys(keys, 1)
    rows = work.ledger.failures.of(work.run.id, keys)
    return {row.key: row.attempt + 1 for row in rows if row.batch != work.batch.token}


# settling


def settle(work: Work) -> Counts:
    """S8: counts that are true, failures that are over, then the one write that ends the batch."""
    counts, inferred = _counts(work)
    close_failures(work)
    work.ledger.batches.settle(work.batch, counts, inferred=inferred)
    work.step("S8")
    return counts


def _check_filter_is_false(work: Work, counts: Counts) -> None:
    """Under mark "filter" a document that still is eligible when it was changed would be changed again.

    A few may have become eligible meanwhile; when it is most of what was changed, the definition is wrong.
    """
    before = work.batch.before or 0
    left = work.documents.count(_extent(work.batch), eligible(work.run, work.batch.phase, retry=work.retry))
    still = left - (before - counts.changed)
    if still > counts.changed / 2:
        error = (
            f"{still} of the {counts.changed} documents that batch {work.batch.token} changed still match the filter. "
            "mark='filter' needs a change that makes the filter false: choose mark='marker', and start a new run."
        )
        work.ledger.runs.move(
            work.run.id,
            RunStatus.PAUSING,
            who=work.batch.worker or "",
            why=error,
            fields={"error": error, "failing": True},
        )


def _counts(work: Work) -> tuple[Counts, bool]:
    if work.clean:
        passed = Counts(work.tally[CHANGED], work.tally[UNCHANGED], work.tally[SKIPPED])
        return passed, False
    return evidence(work.documents, work.ledger, work.run, work.batch)


def evidence(documents: Documents, ledger: Ledger, run: Run, batch: Batch) -> tuple[Counts, bool]:
    """Counts from the documents themselves; True where they had to be inferred (mark "filter", hole H4)."""
    if batch.empty:
        return Counts(), False
    path = run.marking.path
    if path is not None:
        return documents.evidence(_extent(batch), path, batch.token), False
    passed = ledger.failures.passed(run.id, batch.token)
    if batch.before is None:  # it died before its first write
        return passed, False
    phase: Phase = batch.phase
    left = documents.count(_extent(batch), eligible(run, phase, retry=batch.retry))
    return Counts(max(batch.before - left, 0), passed.unchanged, passed.skipped), True


def close_failures(work: Work) -> None:
    """Resolve this migration's failures of documents that are done now, whichever run recorded them."""
    if work.batch.empty:
        return
    for rows in _unresolved(work):
        for resolution, over in _resolutions(work, rows).items():
            work.ledger.failures.resolve(over, resolution)


def _unresolved(work: Work) -> Iterator[Sequence[Unresolved]]:
    """Failures that may be over, a thousand at a time. A range takes no document that has failed in its own run."""
    failures, extent = work.ledger.failures, _extent(work.batch)
    if isinstance(extent, Range):
        yield from failures.of_others(work.run, extent)
        return
    for at in range(0, len(extent), 1000):
        rows = failures.unresolved(work.run, extent[at : at + 1000])
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
