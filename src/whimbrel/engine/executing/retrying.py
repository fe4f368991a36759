"""Doing again what met a transient trouble, and in smaller parts what took too long; for ever nothing."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.repeated_errors import RepeatedErrors
from whimbrel.errors import Systemic, TooSlow, Transient
from whimbrel.ports import Documents

T = TypeVar("T")
log = structlog.get_logger("whimbrel.worker")

SLOW_TRIES = 8  # of a statement that cannot be made smaller and still takes too long


@dataclass(frozen=True, slots=True)
class Retrying:
    """Waits out what passes by itself, for as long as the lease holds."""

    documents: Documents
    pace: Pace

    def until_done(
        self,
        act: Callable[[], T],
        *,
        but: type[Transient] | tuple[type[Transient], ...] = (),
        account: Callable[[], str] = str,
    ) -> T:
        """Act until no transient trouble is met, with jitter between; a lost lease, or a stop, ends it. `but`: what is raised at once.

        Raises Systemic where a statement takes too long time after time: it could not be made smaller; `account` tells of it. And where
        the trouble is the same time after time and nothing goes on, though the ledger answers.
        """
        slow, repeated_errors = 0, RepeatedErrors()
        while True:
            self.pace.between_chunks()
            try:
                # What got no answer may still run: what is made again must not meet it, nor be counted before it ends.
                if self.documents.quiet():
                    return act()
                reason = "a statement that got no answer goes on"
            except Transient as error:
                if isinstance(error, but):
                    raise
                slow = slow + 1 if isinstance(error, TooSlow) else 0
                if slow == SLOW_TRIES:
                    raise Systemic(
                        f"A statement ran out of time {SLOW_TRIES} times in a row, and cannot be made smaller: {error} {account()}"
                    ) from error
                self.pace.tally.broken, reason = True, str(error)
                if why := self._standing_still(repeated_errors, error):
                    raise Systemic(why) from error
            log.info("tried again", batch=self.pace.lease.batch.token, reason=reason)
            time.sleep(0.2 + random.random() * 0.8)  # noqa: S311  spreads retries, protects nothing

    def _standing_still(self, repeated_errors: RepeatedErrors, error: Transient) -> str:
        """Why a person must look. While the ledger does not answer either, nothing is counted: that is nobody's fault but MongoDB's."""
        lease, tally = self.pace.lease, self.pace.tally
        lease.step()  # the answer may take as long as the statement did
        try:
            run = self.pace.ledger.runs.get(lease.run.id)
        except Transient:
            repeated_errors.forget(lease.batch.token)
            return ""
        known = lease.known
        reached = known.chunks, known.at, tally.counts, tally.failed, run and run.folded_through
        return repeated_errors.record(lease.batch.token, error, reached)

    def in_parts(self, where: Range, act: Callable[[Range], object], account: Callable[[Range], str]) -> None:
        """Act on a range of which one statement took too long: on parts of it, each as large as it takes.

        Raises Systemic, with an account of the statement, where even one document takes too long, time after time.
        """
        size, tries = CHUNK_DOCUMENTS // 2, 0
        while True:
            self.pace.between_chunks()
            part = where
            try:
                middle = self.documents.nth(where, size)
                part = Range(where.lo, middle or where.hi)
                act(part)
            except TooSlow as error:
                tries += size == 1
                if tries == SLOW_TRIES:
                    raise Systemic(
                        f"One document takes longer than the time limit of a statement, {SLOW_TRIES} times in a row: {error} {account(part)}"
                    ) from error
                size = max(1, size // 2)
                continue
            if middle is None:
                return
            where, size, tries = Range(middle, where.hi), min(size * 2, CHUNK_DOCUMENTS), 0
