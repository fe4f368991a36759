"""Executing a claimed batch from its first chunk to its settlement (S4 to S8)."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.failures import Unresolved, death
from whimbrel.domain.filters import all_of
from whimbrel.domain.marks import CHANGED, SKIPPED, UNCHANGED
from whimbrel.domain.raw import Key, keys_under
from whimbrel.domain.runs import Counts, Run, eligible
from whimbrel.domain.states import RunStatus
from whimbrel.engine import declarative, function
from whimbrel.engine.verify import verify
from whimbrel.engine.work import Work, patiently, record, remaining, renew
from whimbrel.ports import Documents, Ledger

LOOKED_AT = 20  # documents of a batch that are looked at whether the filter is false now

Piece = Range | Sequence[Key]


def execute(work: Work) -> None:
    """Work a batch off and settle it.

    Transient troubles are waited out here for as long as the lease holds. Raises Stopped, LeaseLost or Systemic.
    """
    if work.run.kind == "verification":
        verify(work)
        return
    work.clean = work.batch.claims == 1
    patiently(work, lambda: _prepare(work))
    for piece in _pieces(work):
        _work_off(work, piece)
    counts = patiently(work, lambda: settle(work))
    if work.run.marking.path is None and counts.changed:
        _check_filter_is_false(work)


def _prepare(work: Work) -> None:
    batch = work.batch
    if batch.suspect is not None:
        _charge(work, batch.suspect)
    if batch.phase == "processing" and batch.ids is None and not work.documents.served(work.eligible):
        work.left = {}
    if (
        work.run.marking.path is None and batch.claims > 1 and batch.before is None
    ):  # no other evidence (hole H4)
        before = count_before(work.documents, work.run, batch)
        if before is not None:
            work.ledger.batches.note(batch, before=before)
            work.batch = replace(work.batch, before=before)


def count_before(documents: Documents, run: Run, batch: Batch) -> int | None:
    """How many documents of a batch were eligible when it was claimed first: MongoDB is asked for that moment, after a crash.

    None where that is too long ago.
    """
    query = eligible(run, batch.phase, retry=batch.retry)
    counts = [documents.count_at(batch.began, piece, query) for piece in batch.pieces]
    return None if None in counts else sum(count or 0 for count in counts)


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


def _take(work: Work, piece: Piece) -> bool:
    """Whether the phase processing may take documents of a piece: those of batches that nobody works on (hole H23)."""
    path, field = work.run.marking.path or "", work.run.status_field
    statuses = ["processing"] if work.left is None else ["failed", "pending", "processing"]
    query = all_of(work.run.query, {field: {"$in": statuses} if len(statuses) > 1 else statuses[0]})
    holders = work.documents.holders(piece, query, field, path)
    if work.left is not None:
        work.left[piece] = Counter()
        for (status, _), number in holders.items():
            work.left[piece][status] += number
    tokens = [token for status, token in holders if status == "processing" and token is not None]
    known, live = (
        work.ledger.batches.live([token.partition("/")[0] for token in tokens]) if tokens else (set(), set())
    )
    live -= {work.batch.token}
    if work.run.adopt == "all":
        held = [token for token in tokens if token.partition("/")[0] in live]
        work.tokens = {path: {"$nin": held}} if held else {}
        return any(status == "processing" for status, _ in holders)
    taken = [token for token in tokens if token.partition("/")[0] in known - live]
    work.tokens = {path: {"$in": taken}}
    return bool(taken)


def _extent(batch: Batch) -> Range | Sequence[Key]:
    return batch.range if batch.ids is None else batch.ids


def _pieces(work: Work) -> Iterator[Piece]:
    """What is worked off one after another: a function asks for the documents of a batch by itself, but in a sweep, which has few."""
    batch = work.batch
    if batch.empty:
        return
    if batch.ids is None and not work.run.declarative and batch.phase not in ("sweep", "processing"):
        yield remaining(batch)
    else:
        yield from (
            each for each in batch.pieces if not isinstance(each, Range) or not _is_through(batch, each)
        )


def _is_through(batch: Batch, piece: Range) -> bool:
    """A solo batch knows how far it is; keys are compared by their places among the cuts."""
    return batch.at is not None and piece.hi is not None and batch.at in batch.cuts and (
        batch.cuts.index(piece.hi) <= batch.cuts.index(batch.at)
    )  # fmt: skip


def _work_off(work: Work, piece: Piece) -> None:
    def act() -> None:
        if work.batch.phase == "processing" and not _take(work, piece):
            return
        _exclude(work, piece)
        if not isinstance(piece, Range):
            _keys(work, piece)
        elif not work.run.declarative:
            function.work_through(work, piece)
        else:
            for part in declarative.parts(work, piece):
                declarative.change_range(work, part)
                work.step("S6")

    patiently(work, act, account=lambda: _account(work, piece))


def _account(work: Work, piece: Piece) -> str:
    return (
        declarative.account(work, piece)
        if work.run.declarative
        else work.documents.account(piece, None, work.write())
    )


def _exclude(work: Work, piece: Piece) -> None:
    """Documents with a failure of this run wait for their retry; only a batch that is new, of the first phase, cannot have met one."""
    batch = work.batch
    if not batch.retry and (batch.claims > 1 or batch.found or not work.clean or batch.phase != "pending"):
        work.excluded = set(work.ledger.failures.excluded(work.run.id, piece))
    else:
        work.excluded = set()


def _keys(work: Work, keys: Sequence[Key]) -> None:
    attempts = _attempts(work, keys)
    if not work.run.declarative:
        function.work_off_keys(work, attempts)
        return
    left = list(attempts)
    while left:
        part = left[: work.pace.chunk]
        declarative.change_keys(work, part)
        work.step("S6")
        left = left[len(part) :]
        if left:
            work.between_chunks()


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
    left = None if work.left is None else sum(work.left.values(), Counter({"failed": 0, "pending": 0}))
    work.ledger.batches.settle(work.batch, counts, inferred=inferred, left=left)
    work.step("S8")
    return counts


def _check_filter_is_false(work: Work) -> None:
    """Under mark "filter" a document that still is eligible when it was changed would be changed again.

    The beginning of the batch is looked at: a few of it may have become eligible meanwhile; when it is most of those that were, the
    definition is wrong.
    """
    query = eligible(work.run, work.batch.phase, retry=work.retry)
    for piece in _beginnings(work):
        rows = work.ledger.failures.excluded(work.run.id, piece)
        rest = all_of(query, {"_id": keys_under("$nin", rows)}) if rows else query
        before = work.documents.count_at(work.batch.began, piece, rest)
        if before == 0:
            continue
        still = work.documents.count(piece, rest)
        if still > (work.tally[CHANGED] if before is None else before) / 2:
            _pause_for_the_filter(work, still)
        return


def _beginnings(work: Work) -> Iterator[Piece]:
    """Some documents at the beginning; should none of them have been eligible, the first chunk; on a stand-alone server all."""
    batch = work.batch
    if batch.began is None:
        yield _extent(batch)
    elif batch.ids is not None:
        yield batch.ids[:LOOKED_AT]
    else:
        yield Range(batch.lo, work.documents.nth(batch.range, LOOKED_AT) or batch.hi)
        yield next(iter(batch.pieces))


def _pause_for_the_filter(work: Work, still: int) -> None:
    error = (
        f"{still} documents that batch {work.batch.token} has changed still match the filter. "
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
