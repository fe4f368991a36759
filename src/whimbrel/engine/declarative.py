"""Executing a declarative migration: one statement a chunk, inside MongoDB.

A statement that MongoDB breaks off for the sake of one document has changed others by then and says
nothing of them (hole H1). What is still eligible is then written in small groups, and the groups that
are refused document by document: the bad ones stand alone, the rest is done.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from whimbrel.domain.batches import Range
from whimbrel.domain.raw import Key
from whimbrel.domain.times import CHUNK_DOCUMENTS
from whimbrel.domain.updates import Update
from whimbrel.engine.work import Work
from whimbrel.errors import DefinitionInvalid, Refused, TooSlow, Transient

GROUP = 32  # documents: about the square root of a chunk, so that few bad ones cost little


def change_range(work: Work, where: Range) -> None:
    """One chunk of a range."""
    try:
        # Two statements of one process at a time only make both dearer; waiting for the journal overlaps anyway.
        with work.turn, work.fenced():
            changed = work.documents.update_range(where, _update(work), work.write())
        work.count(changed)
    except Refused:
        work.clean = False
        _isolate(work, where)
    except TooSlow:
        work.clean = False
        _in_parts(work, where)


def change_keys(work: Work, keys: Sequence[Key]) -> None:
    """The documents of a retry, each in a statement of its own."""
    with work.fenced():
        written = work.documents.update_keys(keys, _update(work), work.write(), group=1)
    work.count(written.applied)
    work.fail(list(written.troubles))


def chunks(work: Work) -> list[Range]:
    """A batch's chunks, as they were planned."""
    return [Range(lo, hi) for lo, hi in pairwise([work.batch.lo, *work.batch.cuts])]


def parts(work: Work, where: Range) -> Iterator[Range]:
    """A planned chunk, in parts as small as the run's rate wants them."""
    while (most := work.pace.chunk) < CHUNK_DOCUMENTS:
        keys = work.documents.keys(where, work.eligible, most)
        if len(keys) < most:
            break
        yield Range(where.lo, keys[-1])
        where = Range(keys[-1], where.hi)
        work.between_chunks()
    yield where


def _update(work: Work) -> Update:
    update = work.definition.update
    if update is None:
        raise DefinitionInvalid(f"Migration {work.definition.name!r} has no update.")
    return update


def _isolate(work: Work, where: Range) -> None:
    while keys := work.documents.keys(where, work.eligible, 1000):
        work.between_chunks()
        with work.fenced():
            written = work.documents.update_keys(keys, _update(work), work.write(), group=GROUP)
        doubtful = [each.key for each in written.doubtful]
        if doubtful:
            with work.fenced():
                single = work.documents.update_keys(doubtful, _update(work), work.write(), group=1)
            work.fail(list(single.troubles))
        if len(keys) < 1000:  # noqa: PLR2004  the page was the last
            return
        where = Range(keys[-1], where.hi)


def _in_parts(work: Work, where: Range) -> None:
    """A chunk whose statement ran into its time limit: in parts, each as large as it takes."""
    size = work.limit // 2
    while True:
        work.between_chunks()
        try:
            middle = work.documents.nth(where, size)
        except TooSlow:
            if size <= 1:
                raise
            size //= 2
            continue
        part = Range(where.lo, middle or where.hi)
        try:
            with work.fenced():
                work.documents.update_range(part, _update(work), work.write())
        except Refused:
            _isolate(work, part)
        except TooSlow as error:
            if size <= 1:
                raise Transient(
                    f"One document takes longer than the time limit of a statement: {error}"
                ) from error
            size //= 2
            continue
        if middle is None:
            return
        where = Range(middle, where.hi)
