"""The transform once more, for documents that a run has changed: it must leave them as they are. Nothing is written.

A function is called here, in the worker, as the run called it, with the run's own context. An update is applied inside MongoDB, which
hands the documents back instead of storing them. Both are compared byte by byte, without the marks.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from math import ceil
from typing import TypeVar

from whimbrel.domain.batches import Batch, Range
from whimbrel.domain.changes import Single, Skipped, Unchanged
from whimbrel.domain.failures import Kind, Trouble, death
from whimbrel.domain.images import Changed, Unreadable, restored
from whimbrel.domain.marks import MARK_ROOT
from whimbrel.domain.pipelines import as_pipeline
from whimbrel.domain.raw import Key, text_at, walk
from whimbrel.domain.runs import for_run
from whimbrel.domain.times import CHUNK_DOCUMENTS
from whimbrel.domain.updates import Update
from whimbrel.domain.verification import CHANGES_AGAIN, LISTED
from whimbrel.engine.examine import Found, Looking
from whimbrel.errors import Refused, TooSlow, Untranslatable
from whimbrel.ports import Guarded

T = TypeVar("T")

PLACES = 8  # chunks of a batch from which its part of a sample is taken
PAGE = 100  # documents that are read at once, at most, and 16 MB
RACES = 2  # looks at a document that seems to differ: the application may have written between two reads

DIFFERS = "The transform would change the document again."


def transform_again(at: Looking) -> Found:
    """For the batch's part of the sample."""
    found = Found()
    share = _share(at)
    if not share:
        return found
    deadly = _deadly(at)
    found.troubles.update(deadly)
    found.count("deadly", len(deadly))
    places = at.lease.batch.ranges
    if at.lease.run.sample is not None:
        places = random.Random(at.lease.batch.token).sample(places, min(PLACES, share, len(places)))  # noqa: S311
    left = share
    for number, where in enumerate(places):
        most = None if at.lease.run.sample is None else ceil(left / (len(places) - number))
        for documents in _pages(at, where, most):
            at.pace.between_chunks()
            _judge(at, [each for each in documents if Key.of_document(each) not in deadly], found)
            at.pace.tally.owed += len(documents)
            left -= len(documents)
    return found


def _share(at: Looking) -> int:
    """How many documents of this batch are due."""
    sample, looked = at.lease.run.sample, at.lease.batch.estimated
    if sample is None or not sample:
        return looked if sample is None else 0
    return min(looked, ceil(sample * looked / max(at.lease.run.estimated, looked, 1)))


def _pages(at: Looking, where: Range, most: int | None) -> Iterator[Sequence[bytes]]:
    """Documents of a range that the run has changed. What takes too long is asked for in smaller pages, and of smaller ranges."""
    query = {at.run.marking.path or "": {"$regex": f"^{at.run.id}\\.[0-9]+$"}}
    left, limit, span = most, PAGE, 0
    while left is None or left > 0:
        part = Range(where.lo, at.documents.nth(where, span) or where.hi) if span else where
        asked = limit if left is None else min(limit, left)
        read = partial(at.examiner.read, part, query, asked)
        try:
            page = at.patience.until_done(read, but=() if span == 1 else TooSlow)
        except TooSlow:
            limit, span = max(1, limit // 4), max(1, (span or CHUNK_DOCUMENTS) // 4)
            continue
        if page.documents:
            yield page.documents
        if page.end and part.hi == where.hi:
            return
        where = Range(part.hi if page.end else Key.of_document(page.documents[-1]), where.hi)
        left = None if left is None else left - len(page.documents)


def _in_parts(at: Looking, keys: Sequence[Key], ask: Callable[[Sequence[Key]], Sequence[T]]) -> list[T]:
    """What is answered about documents; asked about fewer at once where that takes too long."""
    try:
        return list(at.patience.until_done(lambda: ask(keys), but=TooSlow if len(keys) > 1 else ()))
    except TooSlow:
        half = len(keys) // 2
        return [*_in_parts(at, keys[:half], ask), *_in_parts(at, keys[half:], ask)]


def _read(at: Looking, keys: Sequence[Key]) -> list[bytes]:
    """These documents as they are now."""

    def ask(part: Sequence[Key]) -> list[bytes]:
        page = at.examiner.read(part, {}, len(part) + 1)
        found = list(page.documents)
        while not page.end:
            page = at.examiner.read(part, {}, len(part) + 1, after=Key.of_document(found[-1]))
            found += page.documents
        return found

    return _in_parts(at, keys, ask)


def _judge(at: Looking, documents: Sequence[bytes], found: Found) -> None:
    """Documents that were changed by the run, by the batches that changed them: what the transform saw of these it shall see again."""
    if not documents:
        return
    found.count("sampled", len(documents))
    if at.run.undo:
        _judge_images(at, documents, found)
    keys = [Key.of_document(each) for each in documents]
    selected = set(_in_parts(at, keys, lambda part: at.examiner.keys(part, at.run.query, len(part))))
    found.count("not selected", len(documents) - len(selected))
    for batch, part in _by_batch(at, [each for each in documents if Key.of_document(each) in selected]):
        troubles = _differing(at, batch, part, found)
        found.count("tried", len(part))
        found.count("differing", len(troubles))
        room = max(0, LISTED - sum(each.type == CHANGES_AGAIN for each in found.troubles.values()))
        for each in troubles[:room]:
            found.troubles.setdefault(each.key, each)


def _judge_images(at: Looking, documents: Sequence[bytes], found: Found) -> None:
    for document in documents:
        try:
            restored(document, at.run.migration, at.run.version)
        except Changed:
            found.count("changed since", 1)
        except Unreadable:
            found.count("without image", 1)
        else:
            found.count("restorable", 1)


def _by_batch(at: Looking, documents: Sequence[bytes]) -> Iterator[tuple[Batch, list[bytes]]]:
    path = (at.run.marking.path or "").encode().split(b".")
    parts: dict[str, list[bytes]] = {}
    for document in documents:
        parts.setdefault(text_at(document, path) or "", []).append(document)
    for token, part in parts.items():
        batch = at.patience.until_done(lambda token=token: at.ledger.batches.get(token))  # type: ignore[misc]
        if batch is not None:  # a mark of no batch is a finding already
            yield batch, part


def _differing(at: Looking, batch: Batch, documents: Sequence[bytes], found: Found) -> list[Trouble]:
    update = at.definition.update
    if update is None:
        return _called(at, batch, documents, found)
    for _ in range(RACES):
        documents = _changed_by(at, batch, documents, update)
        if not documents:
            return []
        keys = [Key.of_document(each) for each in documents]
        documents = _read(at, keys)
    return [_trouble(Key.of_document(each), DIFFERS) for each in documents]


def _trouble(key: Key, message: str) -> Trouble:
    return Trouble(key=key, kind=Kind.DATA, type=CHANGES_AGAIN, message=message)


def _changed_by(at: Looking, batch: Batch, documents: Sequence[bytes], update: Update) -> list[bytes]:
    """Those of these documents that an update would change, as MongoDB carries it out."""
    stages, let = as_pipeline(update), batch.variables
    keys = [Key.of_document(each) for each in documents]
    try:
        made = _in_parts(at, keys, lambda part: at.examiner.applied(part, stages, let))
    except Refused:
        if len(documents) == 1:
            return list(documents)
        return [bad for each in documents for bad in _changed_by(at, batch, [each], update)]
    if len(made) != len(documents):  # one was deleted between two reads: each alone
        if len(documents) == 1:
            return []
        return [bad for each in documents for bad in _changed_by(at, batch, [each], update)]
    return [old for old, new in zip(documents, made, strict=True) if not _same(at, old, new)]


def _same(at: Looking, old: bytes, new: bytes) -> bool:
    return old == new or _fields(at, old) == _fields(at, new)


def _fields(at: Looking, document: bytes) -> list[tuple[bytes, int, bytes]]:
    """Without what Whimbrel itself writes; a pipeline that drops `_id` gets it back from MongoDB."""
    beside = {name.encode() for name in (*at.run.marking.reserved, MARK_ROOT, "_id")}
    return [each for each in walk(document) if each[0] not in beside]


# functions


def _called(at: Looking, batch: Batch, documents: Sequence[bytes], found: Found) -> list[Trouble]:
    """Those documents for which the function returns a change, or fails."""
    definition = for_run(at.definition, at.run)
    troubles: list[Trouble] = []
    while documents:
        at.pace.between_chunks()
        one = documents[:1] if at.lease.batch.solo else documents
        _hold_suspect(at, one)
        until = time.monotonic() + at.pace.times.chunk
        asked = at.transform(definition, batch, one, {}, until=until)
        documents = documents[asked.done :]
        troubles += [
            _trouble(each.key, f"The function fails now: {each.type}: {each.message}")
            for each in asked.troubles
        ]
        for each in asked.guarded:
            changes = _is_change(at, batch, each)
            if changes is None:
                found.count("unknown change", 1)
            elif changes:
                troubles.append(_trouble(each.key, DIFFERS))
    return troubles


def _is_change(at: Looking, batch: Batch, each: Guarded) -> bool | None:
    """None where only writing would show it."""
    if isinstance(each.change, Unchanged | Skipped):
        return False
    if not isinstance(each.change, Single):
        return True
    try:
        return bool(_changed_by(at, batch, [each.document], each.change.update))
    except Untranslatable:
        return None


def _hold_suspect(at: Looking, documents: Sequence[bytes]) -> None:
    """Should the call kill this process, which has died of this batch twice, the document is named (hole H10)."""
    batch = at.lease.batch
    if batch.solo:
        suspect = Key.of_document(documents[0])
        at.patience.until_done(lambda: at.ledger.batches.suspect(batch, suspect, at.lease.known))


def _deadly(at: Looking) -> dict[Key, Trouble]:
    """Documents whose call has hung or killed a process of this batch before: they are not given to the function again."""
    run, batch, until_done = at.lease.run, at.lease.batch, at.patience.until_done
    if batch.claims == 1:
        return {}
    suspect = batch.suspect
    rows = until_done(lambda: at.ledger.failures.of_kinds(run.id, batch.range, (Kind.DEATH, Kind.HANG)))
    deadly = {row.key: row for row in rows}
    if suspect is not None:
        if suspect not in deadly:
            deadly[suspect] = death(suspect)
            until_done(lambda: at.ledger.failures.record(run, batch, [deadly[suspect]]))
        until_done(lambda: at.ledger.batches.suspect(batch, None, at.lease.known))
    return deadly
