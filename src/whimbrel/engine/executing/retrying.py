"""Repeats what met a transient error, and in smaller parts what took too long; nothing forever."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from whimbrel.domain.failures.retry_policy import ERRORS, ONE_STATEMENT
from whimbrel.domain.runs.batches import Range
from whimbrel.domain.runs.protocol_times import CHUNK_DOCUMENTS
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.repeated_errors import RepeatedErrors
from whimbrel.errors import Remedy, Systemic, TooSlow, Transient
from whimbrel.ports import Documents

T = TypeVar("T")
log = structlog.get_logger("whimbrel.worker")

SLOW_TRIES = int(ONE_STATEMENT.times)


@dataclass(frozen=True, slots=True)
class Retrying:
    """Waits out errors that pass by themselves, for as long as the lease holds."""

    documents: Documents
    pace: Pace

    def until_done(
        self,
        act: Callable[[], T],
        *,
        not_retried: type[Transient] | tuple[type[Transient], ...] = (),
        explain: Callable[[], str] = str,
    ) -> T:
        """Acts until there is no transient error, with jitter in between; a lost lease, or a stop, ends it. `not_retried`: raised at once.

        Raises Systemic where a statement that could not be made smaller takes too long time after time; `explain` describes it. And where
        the error is the same time after time without progress, though the ledger answers.
        """
        slow, repeated_errors = 0, RepeatedErrors()
        while True:
            self.pace.between_chunks()
            try:
                # A statement without an answer may still run: its repetition must not meet it, nor be counted before it ends.
                if self.documents.quiet():
                    return act()
                reason = "a statement that got no answer goes on"
            except Transient as error:
                if isinstance(error, not_retried):
                    raise
                slow = slow + 1 if isinstance(error, TooSlow) else 0
                if slow == SLOW_TRIES:
                    raise Systemic(
                        f"A statement ran out of time {SLOW_TRIES} times in a row, and cannot be made smaller: {error} {explain()}"
                    ) from error
                self.pace.tally.broken, reason = True, str(error)
                if why := self._reason_to_pause(repeated_errors, error):
                    raise Systemic(why) from error
            log.info("tried again", batch=self.pace.lease.batch.token, reason=reason)
            time.sleep(ERRORS[Remedy.AGAIN].delay(1, random.random()))  # noqa: S311  spreads retries, protects nothing

    def _reason_to_pause(self, repeated_errors: RepeatedErrors, error: Transient) -> str:
        """Returns why a person must look, or an empty string. While the ledger does not answer either, nothing is counted: the cause is MongoDB itself."""
        lease, tally = self.pace.lease, self.pace.tally
        lease.step()  # the answer may take as long as the statement did
        try:
            run = self.pace.ledger.runs.get(lease.run.id)
        except Transient:
            repeated_errors.forget(lease.batch.token)
            return ""
        known = lease.known
        reached = known.chunks, known.last_key, tally.counts, tally.failed, run and run.folded_through
        return repeated_errors.record(lease.batch.token, error, reached)

    def in_parts(self, where: Range, act: Callable[[Range], object], explain: Callable[[Range], str]) -> None:
        """Acts on a range of which one statement took too long: on parts of it, each as large as a statement can take.

        Raises Systemic, with a description of the statement, where even one document takes too long, time after time.
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
                        f"One document takes longer than the time limit of a statement, {SLOW_TRIES} times in a row: {error} {explain(part)}"
                    ) from error
                size = max(1, size // 2)
                continue
            if middle is None:
                return
            where, size, tries = Range(middle, where.hi), min(size * 2, CHUNK_DOCUMENTS), 0
