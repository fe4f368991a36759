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

from whimbrel.domain.bson.raw_bson import Key, iterate_fields, text_at
from whimbrel.domain.failures.failure import FailedDocument, FailureKind, process_death
from whimbrel.domain.migrations.before_images import ChangedSince, Unreadable, restored_document
from whimbrel.domain.migrations.changes import Single, Skipped, Unchanged
from whimbrel.domain.migrations.marks import MARK_ROOT
from whimbrel.domain.migrations.pipelines import as_pipeline
from whimbrel.domain.migrations.updates import Update
from whimbrel.domain.runs.batches import Batch, Range
from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.domain.runs.run import for_run
from whimbrel.domain.runs.verification import CHANGES_AGAIN, LISTED
from whimbrel.engine.verifying.examine_documents import Examination, Findings
from whimbrel.errors import Refused, TooSlow, Untranslatable
from whimbrel.ports import GuardedChange

T = TypeVar("T")

PLACES = 8  # chunks of a batch from which its part of a sample is taken
PAGE = 100  # documents that are read at once, at most, and 16 MB
RACES = 2  # looks at a document that seems to differ: the application may have written between two reads

DIFFERS = "The transform would change the document again."


def transform_again(examination: Examination) -> Findings:
    """For the batch's part of the sample."""
    found = Findings()
    share = _share(examination)
    if not share:
        return found
    deadly = _deadly(examination)
    found.troubles.update(deadly)
    found.count("deadly", len(deadly))
    places = examination.lease.batch.ranges
    if examination.lease.run.sample is not None:
        places = random.Random(examination.lease.batch.token).sample(places, min(PLACES, share, len(places)))  # noqa: S311
    left = share
    for number, where in enumerate(places):
        most = None if examination.lease.run.sample is None else ceil(left / (len(places) - number))
        for documents in _pages(examination, where, most):
            examination.pace.between_chunks()
            _judge(examination, [each for each in documents if Key.of_document(each) not in deadly], found)
            examination.pace.tally.owed += len(documents)
            left -= len(documents)
    return found


def _share(examination: Examination) -> int:
    """How many documents of this batch are due."""
    sample, looked = examination.lease.run.sample, examination.lease.batch.estimated
    if sample is None or not sample:
        return looked if sample is None else 0
    return min(looked, ceil(sample * looked / max(examination.lease.run.estimated, looked, 1)))


def _pages(examination: Examination, where: Range, most: int | None) -> Iterator[Sequence[bytes]]:
    """Documents of a range that the run has changed. What takes too long is asked for in smaller pages, and of smaller ranges."""
    query = {examination.run.marking.path or "": {"$regex": f"^{examination.run.id}\\.[0-9]+$"}}
    left, limit, span = most, PAGE, 0
    while left is None or left > 0:
        part = Range(where.lo, examination.documents.nth(where, span) or where.hi) if span else where
        asked = limit if left is None else min(limit, left)
        read = partial(examination.examiner.read, part, query, asked)
        try:
            page = examination.retrying.until_done(read, not_retried=() if span == 1 else TooSlow)
        except TooSlow:
            limit, span = max(1, limit // 4), max(1, (span or CHUNK_DOCUMENTS) // 4)
            continue
        if page.documents:
            yield page.documents
        if page.end and part.hi == where.hi:
            return
        where = Range(part.hi if page.end else Key.of_document(page.documents[-1]), where.hi)
        left = None if left is None else left - len(page.documents)


def _in_parts(
    examination: Examination, keys: Sequence[Key], ask: Callable[[Sequence[Key]], Sequence[T]]
) -> list[T]:
    """What is answered about documents; asked about fewer at once where that takes too long."""
    try:
        return list(
            examination.retrying.until_done(lambda: ask(keys), not_retried=TooSlow if len(keys) > 1 else ())
        )
    except TooSlow:
        half = len(keys) // 2
        return [*_in_parts(examination, keys[:half], ask), *_in_parts(examination, keys[half:], ask)]


def _read(examination: Examination, keys: Sequence[Key]) -> list[bytes]:
    """These documents as they are now."""

    def ask(part: Sequence[Key]) -> list[bytes]:
        page = examination.examiner.read(part, {}, len(part) + 1)
        found = list(page.documents)
        while not page.end:
            page = examination.examiner.read(part, {}, len(part) + 1, after=Key.of_document(found[-1]))
            found += page.documents
        return found

    return _in_parts(examination, keys, ask)


def _judge(examination: Examination, documents: Sequence[bytes], found: Findings) -> None:
    """Documents that were changed by the run, by the batches that changed them: what the transform saw of these it shall see again."""
    if not documents:
        return
    found.count("sampled", len(documents))
    if examination.run.undo:
        _judge_images(examination, documents, found)
    keys = [Key.of_document(each) for each in documents]
    selected = set(
        _in_parts(
            examination, keys, lambda part: examination.examiner.keys(part, examination.run.query, len(part))
        )
    )
    found.count("not selected", len(documents) - len(selected))
    for batch, part in _by_batch(
        examination, [each for each in documents if Key.of_document(each) in selected]
    ):
        troubles = _differing(examination, batch, part, found)
        found.count("tried", len(part))
        found.count("differing", len(troubles))
        room = max(0, LISTED - sum(each.type == CHANGES_AGAIN for each in found.troubles.values()))
        for each in troubles[:room]:
            found.troubles.setdefault(each.key, each)


def _judge_images(examination: Examination, documents: Sequence[bytes], found: Findings) -> None:
    for document in documents:
        try:
            restored_document(document, examination.run.migration, examination.run.version)
        except ChangedSince:
            found.count("changed since", 1)
        except Unreadable:
            found.count("without image", 1)
        else:
            found.count("restorable", 1)


def _by_batch(examination: Examination, documents: Sequence[bytes]) -> Iterator[tuple[Batch, list[bytes]]]:
    path = (examination.run.marking.path or "").encode().split(b".")
    parts: dict[str, list[bytes]] = {}
    for document in documents:
        parts.setdefault(text_at(document, path) or "", []).append(document)
    for token, part in parts.items():
        batch = examination.retrying.until_done(lambda token=token: examination.ledger.batches.get(token))  # type: ignore[misc]
        if batch is not None:  # a mark of no batch is a finding already
            yield batch, part


def _differing(
    examination: Examination, batch: Batch, documents: Sequence[bytes], found: Findings
) -> list[FailedDocument]:
    update = examination.definition.update
    if update is None:
        return _called(examination, batch, documents, found)
    for _ in range(RACES):
        documents = _changed_by(examination, batch, documents, update)
        if not documents:
            return []
        keys = [Key.of_document(each) for each in documents]
        documents = _read(examination, keys)
    return [_trouble(Key.of_document(each), DIFFERS) for each in documents]


def _trouble(key: Key, message: str) -> FailedDocument:
    return FailedDocument(key=key, kind=FailureKind.DATA, type=CHANGES_AGAIN, message=message)


def _changed_by(
    examination: Examination, batch: Batch, documents: Sequence[bytes], update: Update
) -> list[bytes]:
    """Those of these documents that an update would change, as MongoDB carries it out."""
    stages, let = as_pipeline(update), batch.variables
    keys = [Key.of_document(each) for each in documents]
    try:
        made = _in_parts(examination, keys, lambda part: examination.examiner.applied(part, stages, let))
    except Refused:
        if len(documents) == 1:
            return list(documents)
        return [bad for each in documents for bad in _changed_by(examination, batch, [each], update)]
    if len(made) != len(documents):  # one was deleted between two reads: each alone
        if len(documents) == 1:
            return []
        return [bad for each in documents for bad in _changed_by(examination, batch, [each], update)]
    return [old for old, new in zip(documents, made, strict=True) if not _same(examination, old, new)]


def _same(examination: Examination, old: bytes, new: bytes) -> bool:
    return old == new or _fields(examination, old) == _fields(examination, new)


def _fields(examination: Examination, document: bytes) -> list[tuple[bytes, int, bytes]]:
    """Without what Whimbrel itself writes; a pipeline that drops `_id` gets it back from MongoDB."""
    beside = {name.encode() for name in (*examination.run.marking.reserved, MARK_ROOT, "_id")}
    return [each for each in iterate_fields(document) if each[0] not in beside]


# functions


def _called(
    examination: Examination, batch: Batch, documents: Sequence[bytes], found: Findings
) -> list[FailedDocument]:
    """Those documents for which the function returns a change, or fails."""
    definition = for_run(examination.definition, examination.run)
    troubles: list[FailedDocument] = []
    while documents:
        examination.pace.between_chunks()
        one = documents[:1] if examination.lease.batch.solo else documents
        _hold_suspect(examination, one)
        until = time.monotonic() + examination.pace.times.chunk
        asked = examination.transform(definition, batch, one, {}, until=until)
        documents = documents[asked.done :]
        troubles += [
            _trouble(each.key, f"The function fails now: {each.type}: {each.message}")
            for each in asked.failures
        ]
        for each in asked.guarded:
            changes = _is_change(examination, batch, each)
            if changes is None:
                found.count("unknown change", 1)
            elif changes:
                troubles.append(_trouble(each.key, DIFFERS))
    return troubles


def _is_change(examination: Examination, batch: Batch, change: GuardedChange) -> bool | None:
    """None where only writing would show it."""
    if isinstance(change.change, Unchanged | Skipped):
        return False
    if not isinstance(change.change, Single):
        return True
    try:
        return bool(_changed_by(examination, batch, [change.document], change.change.update))
    except Untranslatable:
        return None


def _hold_suspect(examination: Examination, documents: Sequence[bytes]) -> None:
    """Should the call kill this process, which has died of this batch twice, the document is named (hole H10)."""
    batch = examination.lease.batch
    if batch.solo:
        suspect = Key.of_document(documents[0])
        examination.retrying.until_done(
            lambda: examination.ledger.batches.suspect(batch, suspect, examination.lease.known)
        )


def _deadly(examination: Examination) -> dict[Key, FailedDocument]:
    """Documents whose call has hung or killed a process of this batch before: they are not given to the function again."""
    run, batch, until_done = examination.lease.run, examination.lease.batch, examination.retrying.until_done
    if batch.claims == 1:
        return {}
    suspect = batch.suspect
    rows = until_done(
        lambda: examination.ledger.failures.of_kinds(
            run.id, batch.range, (FailureKind.DEATH, FailureKind.HANG)
        )
    )
    deadly = {row.key: row for row in rows}
    if suspect is not None:
        if suspect not in deadly:
            deadly[suspect] = process_death(suspect)
            until_done(lambda: examination.ledger.failures.record(run, batch, [deadly[suspect]]))
        until_done(lambda: examination.ledger.batches.suspect(batch, None, examination.lease.known))
    return deadly
