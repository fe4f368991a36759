"""Transforms documents that a run has changed once more: they must stay as they are. Nothing is written.

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

PLACES = 8  # chunks of a batch from which its share of a sample is taken
PAGE = 100  # documents that are read at once at most, and 16 MB
# Comparisons of a document that seems to differ: the application may have written between two reads.
RACES = 2

DIFFERS = "The transform would change the document again."


def transform_again(examination: Examination) -> Findings:
    """Transforms the batch's share of the sample again."""
    findings = Findings()
    share = _share(examination)
    if not share:
        return findings
    deadly = _deadly_documents(examination)
    findings.failures.update(deadly)
    findings.count("deadly", len(deadly))
    places = examination.lease.batch.ranges
    if examination.lease.run.sample is not None:
        places = random.Random(examination.lease.batch.token).sample(places, min(PLACES, share, len(places)))  # noqa: S311
    remaining = share
    for number, where in enumerate(places):
        limit = None if examination.lease.run.sample is None else ceil(remaining / (len(places) - number))
        for documents in _pages(examination, where, limit):
            examination.pace.between_chunks()
            _try_documents(
                examination,
                [document for document in documents if Key.of_document(document) not in deadly],
                findings,
            )
            examination.pace.tally.owed += len(documents)
            remaining -= len(documents)
    return findings


def _share(examination: Examination) -> int:
    """Returns how many documents of this batch are to be tried."""
    sample, looked = examination.lease.run.sample, examination.lease.batch.estimated
    if sample is None or not sample:
        return looked if sample is None else 0
    return min(looked, ceil(sample * looked / max(examination.lease.run.estimated, looked, 1)))


def _pages(examination: Examination, where: Range, wanted: int | None) -> Iterator[Sequence[bytes]]:
    """Yields documents of a range that the run has changed. What takes too long is read in smaller pages, and from smaller ranges."""
    query = {examination.run.marking.path or "": {"$regex": f"^{examination.run.id}\\.[0-9]+$"}}
    remaining, limit, span = wanted, PAGE, 0
    while remaining is None or remaining > 0:
        part = Range(where.lo, examination.documents.nth(where, span) or where.hi) if span else where
        page_size = limit if remaining is None else min(limit, remaining)
        read = partial(examination.examiner.read, part, query, page_size)
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
        remaining = None if remaining is None else remaining - len(page.documents)


def _in_parts(
    examination: Examination, keys: Sequence[Key], ask: Callable[[Sequence[Key]], Sequence[T]]
) -> list[T]:
    """Returns the answer about documents; asks about fewer at once where that takes too long."""
    try:
        return list(
            examination.retrying.until_done(lambda: ask(keys), not_retried=TooSlow if len(keys) > 1 else ())
        )
    except TooSlow:
        half = len(keys) // 2
        return [*_in_parts(examination, keys[:half], ask), *_in_parts(examination, keys[half:], ask)]


def _read(examination: Examination, keys: Sequence[Key]) -> list[bytes]:
    """Returns these documents as they are now."""

    def ask(part: Sequence[Key]) -> list[bytes]:
        page = examination.examiner.read(part, {}, len(part) + 1)
        documents = list(page.documents)
        while not page.end:
            page = examination.examiner.read(part, {}, len(part) + 1, after=Key.of_document(documents[-1]))
            documents += page.documents
        return documents

    return _in_parts(examination, keys, ask)


def _try_documents(examination: Examination, documents: Sequence[bytes], findings: Findings) -> None:
    """Tries documents that the run changed, by the batches that changed them: the transform must see again what it saw then."""
    if not documents:
        return
    findings.count("sampled", len(documents))
    if examination.run.undo:
        _count_images(examination, documents, findings)
    keys = [Key.of_document(document) for document in documents]
    selected = set(
        _in_parts(
            examination, keys, lambda part: examination.examiner.keys(part, examination.run.query, len(part))
        )
    )
    findings.count("not selected", len(documents) - len(selected))
    for batch, part in _by_batch(
        examination, [document for document in documents if Key.of_document(document) in selected]
    ):
        failures = _differing(examination, batch, part, findings)
        findings.count("tried", len(part))
        findings.count("differing", len(failures))
        room = max(0, LISTED - sum(failure.type == CHANGES_AGAIN for failure in findings.failures.values()))
        for failure in failures[:room]:
            findings.failures.setdefault(failure.key, failure)


def _count_images(examination: Examination, documents: Sequence[bytes], findings: Findings) -> None:
    for document in documents:
        try:
            restored_document(document, examination.run.migration, examination.run.version)
        except ChangedSince:
            findings.count("changed since", 1)
        except Unreadable:
            findings.count("without image", 1)
        else:
            findings.count("restorable", 1)


def _by_batch(examination: Examination, documents: Sequence[bytes]) -> Iterator[tuple[Batch, list[bytes]]]:
    path = (examination.run.marking.path or "").encode().split(b".")
    parts: dict[str, list[bytes]] = {}
    for document in documents:
        parts.setdefault(text_at(document, path) or "", []).append(document)
    for token, part in parts.items():
        batch = examination.retrying.until_done(lambda token=token: examination.ledger.batches.get(token))  # type: ignore[misc]
        if batch is not None:  # a mark that names no batch is a finding already
            yield batch, part


def _differing(
    examination: Examination, batch: Batch, documents: Sequence[bytes], findings: Findings
) -> list[FailedDocument]:
    update = examination.definition.update
    if update is None:
        return _changed_by_function(examination, batch, documents, findings)
    for _ in range(RACES):
        documents = _changed_by_update(examination, batch, documents, update)
        if not documents:
            return []
        keys = [Key.of_document(document) for document in documents]
        documents = _read(examination, keys)
    return [_failure(Key.of_document(document), DIFFERS) for document in documents]


def _failure(key: Key, message: str) -> FailedDocument:
    return FailedDocument(key=key, kind=FailureKind.DATA, type=CHANGES_AGAIN, message=message)


def _changed_by_update(
    examination: Examination, batch: Batch, documents: Sequence[bytes], update: Update
) -> list[bytes]:
    """Returns those of these documents that an update would change, as MongoDB carries it out."""
    stages, variables = as_pipeline(update), batch.variables
    keys = [Key.of_document(document) for document in documents]
    try:
        changed_documents = _in_parts(
            examination, keys, lambda part: examination.examiner.applied(part, stages, variables)
        )
    except Refused:
        if len(documents) == 1:
            return list(documents)
        return [
            changed
            for document in documents
            for changed in _changed_by_update(examination, batch, [document], update)
        ]
    if len(changed_documents) != len(documents):  # one was deleted between two reads: try each alone
        if len(documents) == 1:
            return []
        return [
            changed
            for document in documents
            for changed in _changed_by_update(examination, batch, [document], update)
        ]
    return [
        old
        for old, new in zip(documents, changed_documents, strict=True)
        if not _same_document(examination, old, new)
    ]


def _same_document(examination: Examination, old: bytes, new: bytes) -> bool:
    return old == new or _fields(examination, old) == _fields(examination, new)


def _fields(examination: Examination, document: bytes) -> list[tuple[bytes, int, bytes]]:
    """Leaves out what Whimbrel itself writes, and `_id`, which MongoDB puts back where a pipeline drops it."""
    ignored = {name.encode() for name in (*examination.run.marking.reserved, MARK_ROOT, "_id")}
    return [field_ for field_ in iterate_fields(document) if field_[0] not in ignored]


# For functions


def _changed_by_function(
    examination: Examination, batch: Batch, documents: Sequence[bytes], findings: Findings
) -> list[FailedDocument]:
    """Returns failures for those documents for which the function returns a change, or fails."""
    definition = for_run(examination.definition, examination.run)
    failures: list[FailedDocument] = []
    while documents:
        examination.pace.between_chunks()
        called = documents[:1] if examination.lease.batch.solo else documents
        _name_suspect(examination, called)
        until = time.monotonic() + examination.pace.times.chunk
        transformed = examination.transform(definition, batch, called, {}, until=until)
        documents = documents[transformed.done :]
        failures += [
            _failure(failure.key, f"The function fails now: {failure.type}: {failure.message}")
            for failure in transformed.failures
        ]
        for guarded in transformed.guarded:
            changes = _is_change(examination, batch, guarded)
            if changes is None:
                findings.count("unknown change", 1)
            elif changes:
                failures.append(_failure(guarded.key, DIFFERS))
    return failures


def _is_change(examination: Examination, batch: Batch, change: GuardedChange) -> bool | None:
    """Whether a change would change its document; None where only writing would show it."""
    if isinstance(change.change, Unchanged | Skipped):
        return False
    if not isinstance(change.change, Single):
        return True
    try:
        return bool(_changed_by_update(examination, batch, [change.document], change.change.update))
    except Untranslatable:
        return None


def _name_suspect(examination: Examination, documents: Sequence[bytes]) -> None:
    """Names the document in the ledger, in case the call kills this process, which has died of this batch twice (hole H10)."""
    batch = examination.lease.batch
    if batch.solo:
        suspect = Key.of_document(documents[0])
        examination.retrying.until_done(
            lambda: examination.ledger.batches.suspect(batch, suspect, examination.lease.known)
        )


def _deadly_documents(examination: Examination) -> dict[Key, FailedDocument]:
    """Returns documents whose call has hung or killed a process of this batch before: they are not given to the function again."""
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
