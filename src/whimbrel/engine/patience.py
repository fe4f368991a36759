"""Doing again what met a transient trouble, and in smaller parts what took too long; for ever nothing."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from whimbrel.domain.batches import Range
from whimbrel.domain.times import CHUNK_DOCUMENTS
from whimbrel.engine.standstill import Standstill
from whimbrel.engine.work import Work
from whimbrel.errors import Systemic, TooSlow, Transient

T = TypeVar("T")
log = structlog.get_logger("whimbrel.worker")

TRIES = 8  # of a statement that cannot be made smaller and still takes too long


def patiently(
    work: Work,
    act: Callable[[], T],
    *,
    but: type[Transient] | tuple[type[Transient], ...] = (),
    account: Callable[[], str] = str,
) -> T:
    """Act until no transient trouble is met, with jitter between; a lost lease, or a stop, ends it. `but`: what is raised at once.

    Raises Systemic where a statement takes too long time after time: it could not be made smaller; `account` tells of it. And where the
    trouble is the same time after time and nothing goes on, though the ledger answers.
    """
    slow, standstill = 0, Standstill()
    while True:
        work.between_chunks()
        try:
            # What got no answer may still run: what is made again must not meet it, nor be counted before it ends.
            if work.documents.quiet():
                return act()
            reason = "a statement that got no answer goes on"
        except Transient as error:
            if isinstance(error, but):
                raise
            slow = slow + 1 if isinstance(error, TooSlow) else 0
            if slow == TRIES:
                raise Systemic(
                    f"A statement ran out of time {TRIES} times in a row, and cannot be made smaller: {error} {account()}"
                ) from error
            work.clean, reason = False, str(error)
            if why := _standing_still(work, standstill, error):
                raise Systemic(why) from error
        log.info("tried again", batch=work.batch.token, reason=reason)
        time.sleep(0.2 + random.random() * 0.8)  # noqa: S311  spreads retries, protects nothing


def _standing_still(work: Work, standstill: Standstill, error: Transient) -> str:
    """Why a person must look. While the ledger does not answer either, nothing is counted: that is nobody's fault but MongoDB's."""
    work.hold.progress = time.monotonic()  # the answer may take as long as the statement did
    try:
        run = work.ledger.runs.get(work.run.id)
    except Transient:
        standstill.over(work.batch.token)
        return ""
    reached = sum(work.tally.values()), len(work.excluded), run and run.folded_through
    return standstill.met(work.batch.token, error, reached)


def narrowed(
    work: Work, where: Range, act: Callable[[Range], object], account: Callable[[Range], str]
) -> None:
    """Act on a range of which one statement took too long: on parts of it, each as large as it takes.

    Raises Systemic, with an account of the statement, where even one document takes too long, time after time.
    """
    size, tries = CHUNK_DOCUMENTS // 2, 0
    while True:
        work.between_chunks()
        part = where
        try:
            middle = work.documents.nth(where, size)
            part = Range(where.lo, middle or where.hi)
            act(part)
        except TooSlow as error:
            tries += size == 1
            if tries == TRIES:
                raise Systemic(
                    f"One document takes longer than the time limit of a statement, {TRIES} times in a row: {error} {account(part)}"
                ) from error
            size = max(1, size // 2)
            continue
        if middle is None:
            return
        where, size, tries = Range(middle, where.hi), min(size * 2, CHUNK_DOCUMENTS), 0
