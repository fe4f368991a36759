"""Executing a function: read a chunk, call, write by columns, each document only if it still is what was read."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from whimbrel.domain.batches import Range
from whimbrel.domain.changes import Skipped, Unchanged
from whimbrel.domain.failures import Kind, Trouble
from whimbrel.domain.marks import CHANGED, CLAIMED, DONE, SKIPPED, SUFFIX, UNCHANGED, stamp
from whimbrel.domain.raw import Key
from whimbrel.domain.times import CHUNK_BYTES, CHUNK_DOCUMENTS
from whimbrel.engine.calls import jitter
from whimbrel.engine.work import Work, renew
from whimbrel.errors import TooSlow
from whimbrel.ports import Guarded

TRIES = 4  # of one document that the application keeps changing, within one batch
FIRST = 100  # documents of the first chunk, until their size is known


def work_through(work: Work, where: Range) -> None:
    """All eligible documents of a range."""
    work.limit = min(work.limit, work.definition.concurrency if work.run.claim else FIRST)
    _work_off(work, _pages(work, where), {})


def work_off_keys(work: Work, attempts: Mapping[Key, int]) -> None:
    """The documents of these keys, as far as they are eligible still. `attempts`: the how-manieth try that is of each."""
    work.limit = min(work.limit, work.definition.concurrency if work.run.claim else FIRST)
    keys = list(attempts)
    while keys:
        part = keys[: 1 if work.batch.solo else work.limit]
        _work_off(work, _pages_of_keys(work, part), attempts)
        keys = keys[len(part) :]


def _work_off(work: Work, pages: Iterator[Sequence[bytes]], attempts: Mapping[Key, int]) -> None:
    """Call for every document of the pages: what one chunk does not reach of a page, the next begins with. Its guard protects it."""
    for page in pages:
        work.step("S4")
        done = 0
        while rest := page[done:]:
            work.between_chunks()
            started = time.monotonic()
            reached = change(work, rest, attempts)
            work.limit = _next_limit(work, rest, reached, time.monotonic() - started)
            done += reached


def _pages(work: Work, where: Range) -> Iterator[Sequence[bytes]]:
    """The eligible documents of a range. What takes too long is asked for in smaller pages, and then in smaller ranges."""
    span: int | None = None
    while True:
        work.between_chunks()
        part = where
        try:
            if span is not None:
                part = Range(where.lo, work.documents.nth(where, span) or where.hi)
            page = work.documents.read(part, work.eligible, 1 if work.batch.solo else work.limit)
        except TooSlow:
            if span == 1:
                raise
            work.limit, span = max(1, work.limit // 4), max(1, (span or CHUNK_DOCUMENTS) // 4)
            continue
        if page.documents:
            yield page.documents
        if page.end and part.hi == where.hi:
            return
        where = Range(part.hi if page.end else Key.of_document(page.documents[-1]), where.hi)


def _pages_of_keys(work: Work, keys: Sequence[Key]) -> Iterator[Sequence[bytes]]:
    after: Key | None = None
    while True:
        work.between_chunks()
        try:
            page = work.documents.read_named(keys, work.eligible, after)
        except TooSlow:
            if len(keys) == 1:
                raise
            half = len(keys) // 2
            yield from _pages_of_keys(work, keys[:half])
            yield from _pages_of_keys(work, keys[half:])
            return
        if page.documents:
            yield page.documents
        if page.end:
            return
        after = Key.of_document(page.documents[-1])


def _next_limit(work: Work, documents: Sequence[bytes], done: int, seconds: float) -> int:
    """How many documents make the next page: by their size, and by the time that calls take, about what two chunks reach."""
    mean = sum(map(len, documents)) / len(documents)
    fitting = max(1, min(CHUNK_DOCUMENTS, int(CHUNK_BYTES / mean)))
    if not work.run.claim:
        return min(fitting, max(1, int(2 * work.times.chunk * done / max(seconds, 0.001))))
    return min(fitting, work.limit * 2 if seconds < work.times.chunk / 2 else max(1, work.limit // 2))


def change(work: Work, documents: Sequence[bytes], attempts: Mapping[Key, int]) -> int:
    """Call the function and write what it returned: how many of the documents were reached in the chunk's time."""
    if work.batch.solo:
        return _change_solo(work, documents[0], attempts)
    if work.run.claim:
        claimed = _claim(work, documents)
        if claimed:
            _change(work, claimed, attempts, until=float("inf"))
        return len(documents)
    return _change(work, documents, attempts, until=time.monotonic() + work.times.chunk)


def _change_solo(work: Work, document: bytes, attempts: Mapping[Key, int]) -> int:
    """One document at a time, its key in the ledger while it is in hand: should it kill this process, it is named."""
    key = Key.of_document(document)
    work.ledger.batches.note(work.batch, at=work.batch.at, suspect=key)
    found = _claim(work, [document]) if work.run.claim else [document]
    if found:
        _change(work, found, attempts, until=float("inf"))
    work.batch = replace(work.batch, at=key)
    work.ledger.batches.note(work.batch, at=key)
    return 1


def _claim(work: Work, documents: Sequence[bytes]) -> Sequence[bytes]:
    """Show in the documents that they are being worked on, before the function is called: those that were claimed."""
    fields = {
        work.run.status_field: "processing",
        "processingStartedAt": "$$NOW",
        "processedBy": stamp(work.batch.token, CLAIMED),
    }
    keys = [Key.of_document(document) for document in documents]
    claimed: Sequence[bytes] = ()
    left = documents
    for attempt in range(TRIES):
        guarded = [Guarded(Key.of_document(document), document, Unchanged()) for document in left]
        work.fail(list(work.documents.claim(guarded, fields, work.write())))
        claimed = work.documents.read_keys(keys, work.writable)
        found = {Key.of_document(document) for document in claimed}
        missing = [key for key in keys if key not in found]
        left = work.documents.read_keys(missing, work.eligible) if missing else ()
        if not left:
            return claimed
        time.sleep(jitter(attempt))
        renew(work.ledger, work.hold)
    work.fail([_conflict(Key.of_document(document)) for document in left])
    return claimed


def _change(work: Work, documents: Sequence[bytes], attempts: Mapping[Key, int], *, until: float) -> int:
    called = work.call(work, documents, attempts, until=until)
    work.step("S5")
    troubles = called.troubles
    todo = called.guarded
    for attempt in range(TRIES):
        doubtful, refused = _write(work, todo)
        troubles += refused
        if not doubtful:
            break
        again = work.documents.read_keys(doubtful, work.writable)
        if attempt == TRIES - 1:
            troubles += [_conflict(Key.of_document(document)) for document in again]
            break
        time.sleep(jitter(attempt))
        renew(work.ledger, work.hold)
        retried = work.call(work, again, attempts, until=float("inf"))
        todo, troubles = retried.guarded, troubles + retried.troubles
    work.fail(troubles)
    return called.done


def _conflict(key: Key) -> Trouble:
    return Trouble(
        key=key, kind=Kind.CONFLICT, type="Conflict",
        message=f"The application changed the document between our read and our write, {TRIES} times in a row.",
    )  # fmt: skip


def _write(work: Work, documents: Sequence[Guarded]) -> tuple[list[Key], list[Trouble]]:
    """S6. Returns the documents that were not written though nothing refused them, and those that were refused."""
    marked = work.run.marking.path
    passed = [each for each in documents if marked is None and isinstance(each.change, Skipped | Unchanged)]
    if passed:
        work.ledger.failures.pass_over(work.run, work.batch, {each.key: _outcome(each) for each in passed})
        for each in passed:
            work.count([each], _outcome(each))
    sent = [
        each for each in documents if marked is not None or not isinstance(each.change, Skipped | Unchanged)
    ]
    if not sent:
        return [], []
    written = work.documents.write(sent, work.write(reads=work.definition.reads))
    work.step("S6")
    work.clean = work.clean and (written.clean or marked is not None)  # else counted by their tokens below
    doubtful = {each.key for each in written.doubtful}
    refused = {each.key for each in written.troubles}
    for each in sent:
        if each.key not in doubtful and each.key not in refused:
            work.count([each], _outcome(each))
    return _undone(work, doubtful, written.applied - (len(sent) - len(doubtful) - len(refused))), list(
        written.troubles
    )


def _undone(work: Work, doubtful: set[Key], applied: int) -> list[Key]:
    """Which doubtful documents do not bear our token: they were not written."""
    if not doubtful:
        return []
    path = work.run.marking.path
    if path is None:
        work.count(max(applied, 0))
        return sorted(doubtful, key=lambda key: key.raw)
    outcomes = {work.batch.token + SUFFIX[outcome]: outcome for outcome in DONE}
    undone = []
    tokens = work.documents.tokens(sorted(doubtful, key=lambda key: key.raw), path)
    for key in doubtful:
        outcome = outcomes.get(tokens.get(key, ""))
        if outcome is None:
            undone.append(key)
        else:
            work.count(1, outcome)
    return undone


def _outcome(each: Guarded) -> str:
    if isinstance(each.change, Skipped):
        return SKIPPED
    return UNCHANGED if isinstance(each.change, Unchanged) else CHANGED
