"""Executes a function: read a chunk, call, write grouped by columns, each document only if it still is what was read."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from whimbrel.domain.bson.raw_bson import Key
from whimbrel.domain.failures.failure import FailedDocument, FailureKind
from whimbrel.domain.failures.retry_policy import CHANGED_MEANWHILE
from whimbrel.domain.migrations.changes import Skipped, Unchanged
from whimbrel.domain.migrations.definition import Definition
from whimbrel.domain.migrations.marks import CLAIMED, DONE, SUFFIX, stamp
from whimbrel.domain.runs.batches import Range
from whimbrel.engine.executing.document_pages import Pages
from whimbrel.engine.executing.eligibility import BatchSelection
from whimbrel.engine.executing.failure_recording import FailureRecorder
from whimbrel.engine.executing.function_calls import jitter
from whimbrel.engine.executing.lease import Lease
from whimbrel.engine.executing.pace import Pace
from whimbrel.engine.executing.progress_notes import ProgressNotes
from whimbrel.engine.executing.transform import Transform
from whimbrel.engine.protocol_steps import Step
from whimbrel.ports import Documents, GuardedChange, Ledger

TRIES = int(
    CHANGED_MEANWHILE.times
)  # writes of one document that the application keeps changing, within one batch


@dataclass(frozen=True, slots=True)
class ByFunction:
    """Changes the documents of a claimed batch by what a function returns for them."""

    definition: Definition
    transform: Transform
    pages: Pages
    documents: Documents
    ledger: Ledger
    lease: Lease
    selection: BatchSelection
    pace: Pace
    recorder: FailureRecorder
    notes: ProgressNotes
    step: Step

    def change_range(self, where: Range) -> None:
        """Changes all eligible documents of a range."""
        self._change_pages(self.pages.of_range(where), {}, noted=True)

    def change_keys(self, attempts: Mapping[Key, int]) -> None:
        """Changes the documents of these keys, as far as they are still eligible. `attempts`: the number of the attempt for each."""
        keys = list(attempts)
        while keys:
            part = keys[: self.pages.limit]
            self._change_pages(self.pages.of_keys(part), attempts, noted=False)
            keys = keys[len(part) :]
            if keys:
                self.notes.reached(part[-1])

    def explain(self, where: Range | Sequence[Key]) -> str:
        """Returns the statement that reads these documents, and its plan."""
        return self.documents.explain(where, None, self.selection.write())

    def _change_pages(
        self, pages: Iterator[Sequence[bytes]], attempts: Mapping[Key, int], *, noted: bool
    ) -> None:
        """Changes every document of the pages: what one chunk does not reach of a page, the next begins with. The guard protects it.

        `noted`: note after each chunk how far the stretch is.
        """
        solo = self.lease.batch.solo
        for page in pages:
            self.step("S4")
            done = 0
            while unreached := page[done:]:
                self.pace.between_chunks()
                started = time.monotonic()
                reached = (
                    self._change_alone(unreached[0], attempts, noted=noted)
                    if solo
                    else self._change_chunk(unreached, attempts)
                )
                self.pages.adapt(unreached, reached, time.monotonic() - started)
                done += reached
                if noted and not solo:
                    self.notes.reached(Key.of_document(unreached[reached - 1]))

    def _change_chunk(self, documents: Sequence[bytes], attempts: Mapping[Key, int]) -> int:
        """Transforms documents and writes the results. Returns how many of them were reached in the chunk's time."""
        if self.lease.run.claim:
            claimed = self._claim(documents)
            if claimed:
                self._change(claimed, attempts, until=float("inf"))
            return len(documents)
        return self._change(documents, attempts, until=time.monotonic() + self.pace.times.chunk)

    def _change_alone(self, document: bytes, attempts: Mapping[Key, int], *, noted: bool) -> int:
        """Changes one document, with its key in the ledger meanwhile: if it kills this process, it is named there."""
        key = Key.of_document(document)
        self.notes.suspect(key)
        claimed = self._claim([document]) if self.lease.run.claim else [document]
        if claimed:
            self._change(claimed, attempts, until=float("inf"))
        self.notes.clear_suspect(key if noted else None)
        return 1

    def _claim(self, documents: Sequence[bytes]) -> Sequence[bytes]:
        """Marks documents as being worked on before the function is called. Returns those that were claimed."""
        fields = {
            self.lease.run.status_field: "processing",
            "processingStartedAt": "$$NOW",
            "processedBy": stamp(self.lease.batch.token, CLAIMED),
        }
        keys = [Key.of_document(document) for document in documents]
        claimed: Sequence[bytes] = ()
        unclaimed = documents
        for attempt in range(TRIES):
            guarded = [
                GuardedChange(Key.of_document(document), document, Unchanged()) for document in unclaimed
            ]
            self.recorder.fail(self.documents.claim(guarded, fields, self.selection.write()))
            claimed = self.documents.read_keys(keys, self.selection.writable)
            claimed_keys = {Key.of_document(document) for document in claimed}
            missing = [key for key in keys if key not in claimed_keys]
            unclaimed = self.documents.read_keys(missing, self.selection.eligible) if missing else ()
            if not unclaimed:
                return claimed
            self._wait_before_rereading(attempt)
        self.recorder.fail([_conflict(Key.of_document(document)) for document in unclaimed])
        return claimed

    def _change(self, documents: Sequence[bytes], attempts: Mapping[Key, int], *, until: float) -> int:
        transformed = self.transform(self.definition, self.lease.batch, documents, attempts, until=until)
        self.step("S5")
        failures = transformed.failures
        todo = transformed.guarded
        for attempt in range(TRIES):
            doubtful, refused = self._write(todo)
            failures += refused
            if not doubtful:
                break
            documents_again = self.documents.read_keys(doubtful, self.selection.writable)
            if attempt == TRIES - 1:
                failures += [_conflict(Key.of_document(document)) for document in documents_again]
                break
            self._wait_before_rereading(attempt)
            retransformed = self.transform(
                self.definition, self.lease.batch, documents_again, attempts, until=float("inf")
            )
            todo, failures = retransformed.guarded, failures + retransformed.failures
        self.recorder.fail(failures)
        return transformed.done

    def _wait_before_rereading(self, attempt: int) -> None:
        """Waits a moment before documents are read again that the application changed between our read and our write."""
        time.sleep(jitter(attempt))
        self.lease.renew(self.ledger.batches)

    def _write(self, documents: Sequence[GuardedChange]) -> tuple[list[Key], list[FailedDocument]]:
        """S6. Returns the documents that were not written though nothing refused them, and the failures of those that were refused."""
        tally, marked = self.pace.tally, self.lease.run.marking.path
        passed_over = [
            document
            for document in documents
            if marked is None and isinstance(document.change, Skipped | Unchanged)
        ]
        if passed_over:
            outcomes = {document.key: document.outcome for document in passed_over}
            self.ledger.failures.record_passed_over(self.lease.run, self.lease.batch, outcomes)
            for document in passed_over:
                tally.count(1, document.outcome)
        sent = [
            document
            for document in documents
            if marked is not None or not isinstance(document.change, Skipped | Unchanged)
        ]
        if not sent:
            return [], []
        began = time.monotonic()
        written = self.documents.write(sent, self.selection.write(reads=self.definition.reads))
        seconds = time.monotonic() - began
        self.step("S6")
        if not written.clean and marked is None:  # otherwise they are counted by their tokens below
            tally.broken = True
        doubtful = {document.key for document in written.doubtful}
        refused = {failure.key for failure in written.refused}
        for document in sent:
            if document.key not in doubtful and document.key not in refused:
                tally.count(1, document.outcome)
        applied = written.applied - (len(sent) - len(doubtful) - len(refused))
        self.pace.size.record(len(sent), seconds, conflicts=len(doubtful) - max(applied, 0))
        return self._not_written(doubtful, applied), list(written.refused)

    def _not_written(self, doubtful: set[Key], applied: int) -> list[Key]:
        """Returns the doubtful documents that do not bear our token: they were not written."""
        if not doubtful:
            return []
        keys = sorted(doubtful, key=lambda key: key.raw)
        path = self.lease.run.marking.path
        if path is None:
            self.pace.tally.count(max(applied, 0))
            return keys
        outcomes = {self.lease.batch.token + SUFFIX[outcome]: outcome for outcome in DONE}
        not_written = []
        tokens = self.documents.tokens(keys, path)
        for key in keys:
            outcome = outcomes.get(tokens.get(key, ""))
            if outcome is None:
                not_written.append(key)
            else:
                self.pace.tally.count(1, outcome)
        return not_written


def _conflict(key: Key) -> FailedDocument:
    return FailedDocument(
        key=key, kind=FailureKind.CONFLICT, type="Conflict",
        message=f"The application changed the document between our read and our write, {TRIES} times in a row.",
    )  # fmt: skip
