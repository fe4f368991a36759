"""Executes a declarative migration: one statement a chunk, inside MongoDB.

A statement that MongoDB aborts because of one document has changed others by then, and does not say
which (hole H1). What is still eligible is then written in small groups, and refused groups document
by document: the bad documents are singled out, the rest is done.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.migrations.updates import Update
from whimbrel.domain.runs.batches import Range
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.engine.executing.failure_recording import FailureRecorder
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.executing.progress_notes import ProgressNotes
from whimbrel.engine.executing.retrying import Retrying
from whimbrel.engine.protocol_steps import Step
from whimbrel.errors import Refused, TooSlow
from whimbrel.ports import Documents

GROUP = 32  # documents: about the square root of a chunk, so that few bad ones cost little


def chunk_parts(documents: Documents, selection: BatchSelection, pace: Pace, where: Range) -> Iterator[Range]:
    """Yields a planned chunk in parts that are as small as the run's rate, or the time of a statement, demands."""
    while (limit := pace.chunk) < pace.size.planned:
        keys = documents.keys(where, selection.eligible, limit)
        if len(keys) < limit:
            break
        yield Range(where.lo, keys[-1])
        where = Range(keys[-1], where.hi)
        pace.between_chunks()
    yield where


@dataclass(frozen=True, slots=True)
class ByUpdate:
    """Changes the documents of a claimed batch by an update. `turn`: lets a process run one such statement at a time."""

    update: Update
    documents: Documents
    lease: Lease
    selection: BatchSelection
    pace: Pace
    retrying: Retrying
    recorder: FailureRecorder
    notes: ProgressNotes
    turn: threading.Lock
    step: Step

    def change_range(self, where: Range) -> None:
        """Changes all eligible documents of a range."""
        for part in chunk_parts(self.documents, self.selection, self.pace, where):
            self._update_chunk(part)
            self.step("S6")
            if part.hi is not None and part.hi != where.hi:
                self.notes.reached(part.hi)

    def change_keys(self, keys: Iterable[Key]) -> None:
        """Changes the documents of these keys, as far as they are still eligible."""
        remaining = list(keys)
        while remaining:
            part = remaining[: self.pace.chunk]
            self._update_keys(part)
            self.step("S6")
            remaining = remaining[len(part) :]
            if remaining:
                self.notes.reached(part[-1])
                self.pace.between_chunks()

    def explain(self, where: Range | Sequence[Key]) -> str:
        """Returns the statement over these documents, and its plan."""
        return self.documents.explain(where, self.update, self.selection.write())

    def _update_chunk(self, where: Range) -> None:
        tally = self.pace.tally
        try:
            # Two statements of one process at a time only slow each other down; waiting for the journal overlaps anyway.
            with self.turn, self.lease.fenced():
                began = time.monotonic()
                changed = self.documents.update_range(where, self.update, self.selection.write())
            self.pace.size.record(changed, time.monotonic() - began)
            tally.count(changed)
        except Refused:
            tally.broken = True
            self._isolate(where)
        except TooSlow:
            tally.broken = True
            self.pace.size.shrink()
            self.retrying.in_parts(where, self._update_part, self.explain)

    def _update_part(self, where: Range) -> None:
        try:
            with self.lease.fenced():
                self.documents.update_range(where, self.update, self.selection.write())
        except Refused:
            self._isolate(where)

    def _isolate(self, where: Range) -> None:
        while keys := self.documents.keys(where, self.selection.eligible, 1000):
            self.pace.between_chunks()
            self._update_keys(keys)
            if len(keys) < 1000:  # noqa: PLR2004  this was the last page
                return
            where = Range(keys[-1], where.hi)

    def _update_keys(self, keys: Sequence[Key]) -> None:
        """Updates documents by their keys: together, and where MongoDB refuses one of them, in groups, and then one by one.

        Documents of a retry are updated one by one at once: they have been refused before.
        """
        tally = self.pace.tally
        for group in (1,) if self.lease.batch.retry else (len(keys), GROUP, 1):
            try:
                with self.lease.fenced():
                    written = self.documents.update_keys(
                        keys, self.update, self.selection.write(), group=group
                    )
            except TooSlow:
                tally.broken = True
                self.pace.size.shrink()
                if len(keys) == 1:
                    raise
                for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                    self.pace.between_chunks()
                    self._update_keys(half)
                return
            tally.count(written.applied)
            self.recorder.fail(written.refused)
            keys = [document.key for document in written.doubtful]
            if not keys:
                return
            tally.broken = True
