"""Executing a declarative migration: one statement a chunk, inside MongoDB.

A statement that MongoDB breaks off for the sake of one document has changed others by then and says
nothing of them (hole H1). What is still eligible is then written in small groups, and the groups that
are refused document by document: the bad ones stand alone, the rest is done.
"""

from collections.abc import Iterator, Sequence

from whimbrel.domain.batches import Range
from whimbrel.domain.raw import Key
from whimbrel.domain.times import CHUNK_DOCUMENTS
from whimbrel.domain.updates import Update
from whimbrel.engine.patience import narrowed
from whimbrel.engine.work import Work
from whimbrel.errors import DefinitionInvalid, Refused, TooSlow

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
        narrowed(work, where, lambda part: _change_part(work, part), lambda part: account(work, part))


def change_keys(work: Work, keys: Sequence[Key]) -> None:
    """Documents by their keys: together, and where MongoDB refuses one of them, in groups, and then one by one.

    Those of a retry one by one at once: they have been refused before.
    """
    for group in (1,) if work.retry else (len(keys), GROUP, 1):
        try:
            with work.fenced():
                written = work.documents.update_keys(keys, _update(work), work.write(), group=group)
        except TooSlow:
            work.clean = False
            if len(keys) == 1:
                raise
            for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                work.between_chunks()
                change_keys(work, half)
            return
        work.count(written.applied)
        work.fail(list(written.troubles))
        keys = [each.key for each in written.doubtful]
        if not keys:
            return
        work.clean = False


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


def account(work: Work, where: Range | Sequence[Key]) -> str:
    """The statement over these documents, and its plan."""
    return work.documents.account(where, _update(work), work.write())


def _change_part(work: Work, where: Range) -> None:
    try:
        with work.fenced():
            work.documents.update_range(where, _update(work), work.write())
    except Refused:
        _isolate(work, where)


def _isolate(work: Work, where: Range) -> None:
    while keys := work.documents.keys(where, work.eligible, 1000):
        work.between_chunks()
        change_keys(work, keys)
        if len(keys) < 1000:  # noqa: PLR2004  the page was the last
            return
        where = Range(keys[-1], where.hi)
