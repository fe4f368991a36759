"""Executing a claimed batch from its first chunk to its settlement (S4 to S8)."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from whimbrel.domain.batches import Batch, Piece, Range
from whimbrel.domain.failures import death
from whimbrel.domain.filters import all_of
from whimbrel.domain.raw import Key
from whimbrel.domain.runs import eligible, in_status
from whimbrel.engine import declarative, function
from whimbrel.engine.filter_mark import check_filter_is_false, keep_before
from whimbrel.engine.patience import patiently
from whimbrel.engine.settling import settle
from whimbrel.engine.work import Stopped, Work, record, remaining

SHORT = 0.1  # seconds that a statement takes after which the next may be twice as large


def execute(work: Work) -> None:
    """Work a batch off and settle it.

    Transient troubles are waited out here for as long as the lease holds. Raises Stopped, LeaseLost or Systemic.
    """
    patiently(work, work.documents.check_identity)
    work.clean, work.aging = work.batch.claims == 1, lambda: keep_before(work)
    patiently(work, lambda: _prepare(work))
    try:
        for piece in _pieces(work):
            _work_off(work, piece)
    except Stopped:
        keep_before(work)  # it may be long until it goes on
        raise
    counts = patiently(work, lambda: settle(work))
    if work.run.marking.path is None and counts.changed:
        check_filter_is_false(work, counts)


def _prepare(work: Work) -> None:
    batch = work.batch
    if batch.suspect is not None:
        _charge(work, batch.suspect)
    if batch.phase == "processing" and batch.ids is None and not work.documents.served(work.eligible):
        work.left = {}
    if batch.claims > 1:
        keep_before(work)


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
    query = all_of(work.run.query, in_status(work.run, *statuses))
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


def _pieces(work: Work) -> Iterator[Piece]:
    """What is worked off one after another: a function asks for the documents of a batch by itself, but in a sweep, which has few."""
    batch = work.batch
    if batch.empty:
        return
    if batch.ids is None and not work.run.declarative and batch.phase not in ("sweep", "processing"):
        yield remaining(batch)
    elif batch.ids is None and work.run.declarative and batch.phase == "pending":
        yield from _together(work, batch.ranges)
    else:
        yield from (
            each for each in batch.pieces if not isinstance(each, Range) or not _is_through(batch, each)
        )


def _together(work: Work, chunks: Sequence[Range]) -> Iterator[Range]:
    """Chunks of an update, several in one statement while such statements are short: each waits for the journal once."""
    at, most = 0, 2
    while at < len(chunks):
        part = chunks[at : at + (1 if work.pace.rate is not None or work.batch.solo else most)]
        began = time.monotonic()
        yield Range(part[0].lo, part[-1].hi)
        at, most = at + len(part), most * 2 if time.monotonic() - began < SHORT else 1


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
    rows = work.ledger.failures.tried(work.run.id, keys)
    return {row.key: row.attempt + 1 for row in rows if row.batch != work.batch.token}
