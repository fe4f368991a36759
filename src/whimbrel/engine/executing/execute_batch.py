"""Executes a claimed batch from its first chunk to its settlement (S4 to S8)."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import process_death
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.runs.batches import Piece, Range
from whimbrel.domain.runs.chunk_size import chunks_by_bytes
from whimbrel.domain.runs.run import eligible
from whimbrel.engine.executing.adoption import adopt_documents
from whimbrel.engine.executing.chunk_costs import ChunkCosts
from whimbrel.engine.executing.declarative import ByUpdate
from whimbrel.engine.executing.document_pages import Pages
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.engine.executing.failure_recording import FailureRecorder, record_failures
from whimbrel.engine.executing.filter_mark import check_filter_is_false, keep_counts_before
from whimbrel.engine.executing.function import ByFunction
from whimbrel.engine.executing.lease import Lease, LeaseStopped
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.executing.progress_notes import ProgressNotes
from whimbrel.engine.executing.retrying import Retrying
from whimbrel.engine.executing.settling import settle
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.protocol_steps import Step
from whimbrel.errors import DefinitionInvalid
from whimbrel.ports import Documents, Ledger


@dataclass(frozen=True, slots=True)
class BatchExecution:
    """A claimed batch, worked off stretch by stretch in one of the two ways of writing."""

    documents: Documents
    ledger: Ledger
    selection: BatchSelection
    pace: Pace
    retrying: Retrying
    notes: ProgressNotes
    chunk_costs: ChunkCosts
    writer: ByUpdate | ByFunction

    @property
    def lease(self) -> Lease:
        return self.pace.lease

    def prepare(self) -> None:
        """Does what a lost claim, or a process that died, has left to do."""
        batch, progress = self.lease.batch, self.lease.known
        if batch.suspect is not None:
            self._record_process_death(batch.suspect)
        if batch.phase == "processing" and batch.ids is None:
            counts_statuses = progress.left is not None or not self.documents.served(self.selection.eligible)
            self.pace.tally.left = Counter() if counts_statuses else None
        if not batch.fresh:
            keep_counts_before(self.documents, self.ledger, self.lease, batch.began)

    def _record_process_death(self, suspect: Key) -> None:
        """Records that a process died alone with this document in hand: that is an attempt of the document.

        Not if the document was done by then, or its failure was recorded.
        """
        run, batch = self.lease.run, self.lease.batch
        rows = self.ledger.failures.unresolved(run, [suspect])
        recorded = any(row.run == run.id and row.batch == batch.token for row in rows)
        still_eligible = not recorded and self.documents.read_keys(
            [suspect], eligible(run, batch.phase, retry=True)
        )
        if still_eligible:
            record_failures(self.ledger, self.lease, [process_death(suspect)])
        self.lease.batch = replace(batch, suspect=None)
        self.ledger.batches.suspect(self.lease.batch, None, self.lease.known)

    def execute_stretches(self) -> None:
        for end in self._stretch_ends():
            self.notes.begin(end)
            self.retrying.until_done(
                self._execute_stretch, explain=lambda: self.writer.explain(self.notes.remaining)
            )

    def _stretch_ends(self) -> Iterator[int]:
        """Yields where the stretches of the batch end: several short chunks make one stretch, for each is read, or waits for the journal, once.

        After a crash each chunk is counted alone.
        """
        batch, progress = self.lease.batch, self.lease.known
        if not batch.fresh:
            yield from [end for end, _ in batch.remaining_pieces(progress)]
            return
        done = progress.chunks
        if progress.part is not None:
            done = progress.part.end
            yield done
        while done < batch.chunks:
            began, chunks = time.monotonic(), 1
            if self._combines_chunks:
                together = min(
                    self.chunk_costs.chunks(batch.run), chunks_by_bytes(self.lease.run.document_bytes)
                )
                chunks = min(together, batch.chunks - done)
            done += chunks
            yield done
            if self._combines_chunks:
                self.chunk_costs.record(batch.run, chunks, time.monotonic() - began)

    @property
    def _combines_chunks(self) -> bool:
        """Whether a stretch may have several chunks: a function reads documents of several at once, except in a sweep, which has few."""
        batch = self.lease.batch
        if batch.ids is not None or batch.solo or self.pace.rate is not None:
            return False
        return batch.phase == "pending" or (batch.phase == "failed" and not self.lease.run.declarative)

    def _execute_stretch(self) -> None:
        piece = self.notes.remaining
        adopting = self.lease.batch.phase == "processing"
        if not adopting or adopt_documents(self.documents, self.ledger.batches, self.selection, piece):
            self._exclude(piece)
            if isinstance(piece, Range):
                self.writer.change_range(piece)
            else:
                self.writer.change_keys(self._attempts(piece))
        self.notes.finish()

    def _exclude(self, piece: Piece) -> None:
        """Lets documents with a failure of this run wait for their retry; only a new batch of the first leg cannot have any."""
        batch = self.lease.batch
        may_have_failures = (
            batch.located or not self.pace.tally.clean or batch.phase != "pending" or batch.leg > 0
        )
        self.selection.exclude_only(
            self.ledger.failures.excluded(self.lease.run.id, piece)
            if may_have_failures and not batch.retry
            else ()
        )

    def _attempts(self, keys: Sequence[Key]) -> dict[Key, int]:
        """Returns which of these documents this batch still has to try, and the number of that attempt."""
        batch = self.lease.batch
        if not batch.retry:
            return dict.fromkeys(keys, 1)
        rows = {row.key: row for row in self.ledger.failures.tried(batch.run, keys)}
        return {key: rows[key].attempt + 1 for key in keys if key in rows and rows[key].batch != batch.token}


def execute_batch(
    pace: Pace,
    documents: Documents,
    ledger: Ledger,
    definition: Definition,
    transform: Transform,
    *,
    turn: threading.Lock,
    chunk_costs: ChunkCosts,
    step: Step,
) -> None:
    """Executes a batch and settles it.

    Waits out transient errors for as long as the lease holds. Raises LeaseStopped, LeaseLost or Systemic.
    """
    lease, tally = pace.lease, pace.tally
    tally.fresh = lease.batch.fresh
    selection, retrying = BatchSelection(lease, tally), Retrying(documents, pace)
    recorder = FailureRecorder(documents, ledger, lease, selection, tally, step)
    notes = ProgressNotes(documents, ledger, lease, tally, chunk_costs, pace.times.notes, step)
    writer: ByUpdate | ByFunction
    if lease.run.declarative:
        if definition.update is None:
            raise DefinitionInvalid(f"Migration {definition.name!r} has no update.")
        writer = ByUpdate(
            definition.update, documents, lease, selection, pace, retrying, recorder, notes, turn, step
        )
    else:
        pages = Pages(documents, selection, pace, definition.concurrency)
        writer = ByFunction(
            definition, transform, pages, documents, ledger, lease, selection, pace, recorder, notes, step
        )
    execution = BatchExecution(documents, ledger, selection, pace, retrying, notes, chunk_costs, writer)
    retrying.until_done(documents.check_identity)
    try:
        retrying.until_done(execution.prepare)
        execution.execute_stretches()
        counts = retrying.until_done(lambda: settle(documents, ledger, selection, step, pace.work))
    except LeaseStopped:
        notes.give_back()
        raise
    if lease.run.marking.path is None and counts.changed:
        check_filter_is_false(documents, ledger, lease, counts)
